"""Locks on folders, which end with the process that holds them, however it ends."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has locks of another kind.
    import msvcrt

    def _lock(handle: int) -> None:
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


logger = logging.getLogger(__name__)

_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


class LockedError(OSError):
    """A lock is held by another process."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds a lock while a block runs; the system releases it where the process is killed.

    On a file system without locks the block runs unlocked, after a warning.

    Args:
        path: The lock's file, created in an existing folder. It may be removed inside the block.

    Raises:
        LockedError: Another process holds the lock.
        OSError: The file cannot be created.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, exclusive(Path(folder) / "lock"):
        ...     with exclusive(Path(folder) / "lock"):
        ...         pass
        Traceback (most recent call last):
        trainkit.locks.LockedError: ...
    """
    handle = _acquire(path)
    try:
        yield
    finally:
        os.close(handle)


def _acquire(path: Path) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in _HELD:
                os.close(handle)
                raise LockedError(f"{path}: another process holds this lock") from None
            logger.warning("%s: this file system has no locks (%s); let no second run write here", path, error)
            return handle
        # Whoever held the lock before may have removed the file meanwhile: a lock on it protects nothing.
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            return handle
        os.close(handle)
