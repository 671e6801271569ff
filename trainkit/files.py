"""Atomic writing: a reader, or the next run after a kill, never meets half a file."""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Bytes that are read at once.
_CHUNK = 2**20


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; moves it onto `path` when the block ends without an error.

    The temporary file has the suffix of `path` (image and HDF5 writers choose their format by it) and a name
    that begins with a dot, so that a search for finished files passes over it. If the block raises, the temporary file
    is removed and a file at `path` is left as it was. Missing parent folders are created.

    Args:
        path: File to write.

    Yields:
        Path of an empty file in the same folder, for the block to write.

    Raises:
        OSError: The folder cannot be created or written, or the disk is full; the message names `path`, also where the
            block met the error in the temporary file.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> with atomic_path(Path(folder.name) / "scores" / "a.csv") as temporary:
        ...     _ = temporary.write_text("mAP\\n0.5\\n")
        >>> [path.name for path in Path(folder.name, "scores").iterdir()]
        ['a.csv']
        >>> folder.cleanup()
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner can read; the result gets what open() would have given it.
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        named = _about(path, temporary, error)
        if named is None:
            raise
        raise named from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, data: bytes | memoryview) -> None:
    """Writes a file atomically.

    Args:
        path: File to write.
        data: Content of the file.

    Raises:
        OSError: The folder cannot be created or written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a text file as UTF-8, atomically and with the text's own line ends.

    Args:
        path: File to write.
        text: Content of the file.

    Raises:
        OSError: The folder cannot be created or written.
    """
    write_bytes(path, text.encode("utf-8"))


def file_digest(path: str | os.PathLike, algorithm: str) -> str:
    """Returns the digest of a file in hexadecimal digits.

    Args:
        path: File to read, a part at a time.
        algorithm: Name of the hash function, as `hashlib.new` takes it.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.new(algorithm)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _about(path: Path, temporary: Path, error: OSError | RuntimeError) -> OSError | None:
    """Returns the error that names the file meant instead of its temporary one; None for an error about another file.

    Writing to an open file fails without a name. HDF5 puts the system's error number into the text, and h5py raises
    RuntimeError with it where a file cannot be closed.
    """
    text = str(error)
    stated = re.search(r"errno = (\d+)", text)
    if stated:
        number = int(stated[1])
        return OSError(number, os.strerror(number), str(path))
    if not isinstance(error, OSError) or str(error.filename or path) not in (str(path), str(temporary)):
        return None
    if error.errno is not None:
        return OSError(error.errno, os.strerror(error.errno), str(path))
    return OSError(f"{path}: {text.replace(str(temporary), str(path))}") if type(error) is OSError else None


def _umask() -> int:
    """Returns the process's file mode mask, which the system reports only when it is set."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
