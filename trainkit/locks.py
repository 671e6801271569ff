"""Locks on folders, which end with the process that holds them, however it ends."""

from __future__ import annotations

import datetime
import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has locks of another kind.
    import msvcrt

    # A byte behind what the file says about its holder, as nobody else can read a locked byte.
    _LOCKED_BYTE = 2**20

    def _lock(handle: int) -> None:
        os.lseek(handle, _LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:

    def _lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


logger = logging.getLogger(__name__)

# Seconds between two attempts.
_PAUSE = 0.05
_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@dataclass(frozen=True)
class Holder:
    """Process that holds a lock, as the lock's file names it.

    Attributes:
        host: Name of its computer.
        pid: Its number there.
        since: When it took the lock, local time in ISO 8601.

    Examples:
        >>> print(Holder("workstation", 4711, "2024-01-31T12:00:00"))
        process 4711 on workstation (since 2024-01-31T12:00:00)
    """

    host: str
    pid: int
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"


class LockedError(OSError):
    """A lock is held by another process.

    Attributes:
        holder: The process in words, "another process" where the lock's file does not name it.
    """

    def __init__(self, message: str, holder: str = "another process"):
        super().__init__(message)
        self.holder = holder


@contextmanager
def exclusive(path: Path, wait: float = 0.0) -> Iterator[None]:
    """Holds a lock while a block runs; the system releases it where the process is killed.

    The file names the process for others. On a file system without locks the block runs unlocked, after a warning.

    Args:
        path: The lock's file, created in an existing folder. It may be removed inside the block.
        wait: Seconds to wait for another process that holds the lock.

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
    handle = _acquire(path, time.monotonic() + wait)
    try:
        _sign(handle)
        yield
    finally:
        os.close(handle)


def _sign(handle: int) -> None:
    """Writes this process into the file of its lock."""
    since = datetime.datetime.now().isoformat(timespec="seconds")
    text = json.dumps(asdict(Holder(socket.gethostname(), os.getpid(), since)))
    os.ftruncate(handle, 0)
    os.lseek(handle, 0, os.SEEK_SET)
    os.write(handle, text.encode())


def _holder(path: Path) -> str:
    """Returns the process that a lock's file names, in words."""
    try:
        return str(Holder(**json.loads(path.read_text())))
    except (OSError, ValueError, TypeError):
        # It has only now taken the lock and not signed yet, or is ending.
        return "another process"


def _acquire(path: Path, until: float) -> int:
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle)
        except OSError as error:
            if error.errno in _HELD:
                os.close(handle)
                if time.monotonic() < until:
                    time.sleep(_PAUSE)
                    continue
                holder = _holder(path)
                raise LockedError(f"{path}: {holder} holds this lock", holder) from None
            logger.warning("%s: this file system has no locks (%s); let no second run write here", path, error)
            return handle
        # Whoever held the lock before may have removed the file meanwhile: a lock on it protects nothing.
        if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
            return handle
        os.close(handle)
