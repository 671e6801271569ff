"""Atomic writing: a reader, or the next run after a kill, never meets half a file."""

import errno
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Bytes that are read at once.
_CHUNK = 2**20
# Bytes that must fit on a disk for it not to be full.
_PROBE = 2**16
# How HDF5 states the system's error, in errors of several types.
_HDF5_CAUSE = re.compile(r"errno = (\d+), error message = '([^']*)'")


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; moves it onto `path` when the block ends without an error.

    The temporary file has the suffix of `path` (image and HDF5 writers choose their format by it) and a name
    that begins with a dot, so that a search for finished files passes over it. If the block raises, the temporary file
    is removed and a file at `path` is left as it was. Missing parent folders are created. Errors of the system, such as
    a full disk, name `path`, not the temporary file, also those that HDF5 reports as errors of other types.

    Args:
        path: File to write.

    Yields:
        Path of an empty file in the same folder, for the block to write.

    Raises:
        OSError: The folder cannot be created or written; the error names `path`.

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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise _naming(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files that only their owner can read; the result gets what open() would have given it.
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except (OSError, RuntimeError, ValueError) as error:
        named = _naming(path, error, temporary)
        if named is error:
            raise
        raise named from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: str | os.PathLike, pattern: str) -> None:
    """Removes the temporary files of `atomic_path` that a killed process left in a folder.

    Args:
        folder: Folder that no other process writes into now; may be missing.
        pattern: Pattern of the names of the files meant, such as "mask_rcnn_*.h5".

    Raises:
        OSError: A file cannot be removed.
    """
    stem, suffix = os.path.splitext(pattern)
    for path in Path(folder).glob(f".{stem}.*{suffix}"):
        path.unlink(missing_ok=True)


def require_writable(folder: str | os.PathLike) -> None:
    """Makes sure, before long work, that files can be written into a folder, without creating it.

    Args:
        folder: Folder of the results; it may be missing, and so may folders above it.

    Raises:
        OSError: The folder cannot be created or written, or its disk is full; the error names the folder.
    """
    folder = Path(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not existing.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f"Cannot be a folder: {existing} is a file", str(folder))
    try:
        with tempfile.TemporaryFile(dir=existing) as probe:
            probe.write(bytes(_PROBE))
            probe.flush()
    except OSError as error:
        raise _naming(folder, error) from error


def _naming(path: Path, error: Exception, temporary: Path | None = None) -> Exception:
    """Returns an error of the system as one that names a file; any other error, or one of another file, as it is."""
    cause = _HDF5_CAUSE.search(str(error))
    if cause is not None:
        return OSError(int(cause[1]), cause[2], str(path))
    if type(error) is OSError and error.errno is None and str(path) not in str(error):
        # Libraries that count the bytes written, such as NumPy, raise errors without the system's number.
        return OSError(f"{path}: could not be written, is the disk full? ({error})")
    elsewhere = temporary is not None and getattr(error, "filename", None) not in (None, str(temporary), temporary)
    if not isinstance(error, OSError) or error.errno is None or elsewhere:
        return error
    return OSError(error.errno, os.strerror(error.errno), str(path))


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


def _umask() -> int:
    """Returns the process's file mode mask, which the system reports only when it is set."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
