"""Opening of HDF5 files: one way to read them, which trusts no file, and one to write them.

HDF5 can take data from other files: a dataset from a raw file (external storage) or from other datasets (virtual
datasets), a group's member from another file (external links). With them, a crafted weights file would bring the bytes
of any file that its reader may read. Weights need none of this, so files with any of it are refused.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from trainkit.files import write_bytes
from trainkit.reading import reading

# Bytes to which a file may expand when it is read, whatever its size; above that, multiple of its own size.
_SMALL = 2**30
_EXPANSION = 20
# Classes of types whose values consist of, or refer to, other values.
_COMPOSED = (h5py.h5t.VLEN, h5py.h5t.COMPOUND, h5py.h5t.ARRAY, h5py.h5t.REFERENCE, h5py.h5t.OPAQUE)
# Signature, version and reserved bytes of a heap of values of variable length.
_HEAP = b"GCOL\x01\0\0\0"


class WeightsFileError(ValueError):
    """Weights file that cannot be read or does not fit the model; the message names file and cause."""


@contextmanager
def open_for_reading(path: str | os.PathLike, content: bytes | None = None) -> Iterator[h5py.File]:
    """Opens an HDF5 file; any defect, also one met while it is open, becomes a `WeightsFileError` that names the file.

    Args:
        path: File to read.
        content: Content of an HDF5 file inside `path`; by default `path` itself is read.

    Yields:
        The open file. Everything in it is in the file itself, and reading all of it takes at most 1 GiB or 20 times
        the file's size.

    Raises:
        WeightsFileError: The file is missing, is no HDF5 file, is truncated or damaged, refers to other files, or would
            expand to more than that; or the block failed.
    """
    if not os.path.isfile(path):
        raise WeightsFileError(f"{path}: there is no such weights file")
    if content is None and not h5py.is_hdf5(path) and zipfile.is_zipfile(path):
        raise WeightsFileError(
            f"{path}: not a readable HDF5 file. It is a whole model: its own class reads .keras files, and writes the "
            "weights alone as .h5."
        )
    with (
        reading(path, "not a readable HDF5 file", WeightsFileError),
        h5py.File(path if content is None else io.BytesIO(content), "r") as file,
    ):
        expanded, has_text = _require_self_contained(file)
        require_plausible_size(expanded, os.path.getsize(path) if content is None else len(content))
        if has_text:
            _require_sound_heaps(file, Path(path).read_bytes() if content is None else content)
        yield file


@contextmanager
def open_for_writing(path: str | os.PathLike) -> Iterator[h5py.File]:
    """Creates an HDF5 file atomically: it replaces a file at `path` when the block ends without an error.

    The file is made in memory, which has to hold all of it.

    Args:
        path: File to write.

    Yields:
        The open, empty file.

    Raises:
        OSError: The file cannot be written, such as on a full disk; the message names `path`, whose content stays.
    """
    # In memory: where a disk is full, HDF5 keeps what it could not write, tries again later and ends the program.
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        yield file
    write_bytes(path, content.getbuffer())


def require_plausible_size(expanded: int, size: int) -> None:
    """Raises an error for a file that would expand to far more bytes than it has, and so fill the memory.

    Args:
        expanded: Bytes of its content, as the file states them.
        size: Bytes of the file.

    Raises:
        ValueError: The content takes more than 1 GiB and more than 20 times the file's size.
    """
    if expanded > max(_SMALL, _EXPANSION * size):
        raise ValueError(f"{size} bytes that would expand to {expanded}")


def _require_self_contained(file: h5py.File) -> tuple[int, bool]:
    """Walks an HDF5 file without reading data; refuses what refers to other files.

    Hard links may form circles, so every object is visited once.

    Returns:
        (bytes of all data, whether there is text of variable length).
    """
    root = h5py.Group(file.id)
    seen, waiting, total, has_text = {_address(file)}, [root], 0, _varies(root)
    while waiting:
        group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise ValueError(f"{group.name.rstrip('/')}/{name} is a link to another place, which is not followed")
            member = group[name]
            if _address(member) in seen:
                continue
            seen.add(_address(member))
            has_text |= _varies(member)
            if isinstance(member, h5py.Group):
                waiting.append(member)
            elif isinstance(member, h5py.Dataset):
                if member.external is not None or member.is_virtual:
                    raise ValueError(f"the data of {member.name} are in another file, which is not read")
                total += member.nbytes
    return total, has_text


def _varies(member: h5py.Group | h5py.Dataset | h5py.Datatype) -> bool:
    """Returns whether a dataset, or an attribute of a member, has text of variable length; refuses composed types.

    Reading damaged composed values may end the program, and no weights file has any.
    """
    kinds = [member.attrs.get_id(name).get_type() for name in member.attrs]
    if isinstance(member, h5py.Dataset):
        kinds.append(member.id.get_type())
    if any(kind.get_class() in _COMPOSED for kind in kinds):
        raise ValueError(f"{member.name} holds composed values, which no weights file has")
    return any(isinstance(kind, h5py.h5t.TypeStringID) and kind.is_variable_str() for kind in kinds)


def _require_sound_heaps(file: h5py.File, data: bytes) -> None:
    """Refuses a file whose text of variable length HDF5 would never finish reading.

    It lies in heaps (HDF5 File Format Specification, III.E), where an object is an index (2 bytes, 0 for free space),
    a count, its size and its data; the size of free space includes the header. At free space of size 0, HDF5 stays
    for ever.
    """
    if file.id.get_create_plist().get_sizes() != (8, 8):
        raise ValueError("its addresses and sizes are not of 8 bytes")
    heap = data.find(_HEAP)
    while heap >= 0:
        at, end = heap + 16, min(len(data), heap + int.from_bytes(data[heap + 8 : heap + 16], "little"))
        while at + 16 <= end:
            size = int.from_bytes(data[at + 8 : at + 16], "little")
            if any(data[at : at + 2]):
                at += 16 + -(-size // 8) * 8
            elif size:
                at += size
            else:
                raise ValueError("its text of variable length is damaged")
        heap = data.find(_HEAP, heap + 1)


def _address(member: h5py.Group | h5py.Dataset | h5py.Datatype) -> int:
    return h5py.h5o.get_info(member.id).addr
