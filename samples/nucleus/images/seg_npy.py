"""The label image in a `_seg.npy` of Cellpose, read without running anything that the file names.

Such a file is a NumPy array of one Python object, a dictionary, in Python's pickle format, which can call any function
when it is loaded in the usual way. Here a call of NumPy's in the file becomes a record of its arguments, a call of
anything else is an error, and the label image is made from the recorded bytes after they have been checked.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import re
from pathlib import Path
from typing import Any

import numpy as np

from nucleus.images.decoding import ImageFileError

ENDING = "_seg.npy"
_KEY = "masks"
# What files of Cellpose name: parts of NumPy's arrays, and the path of the image.
_KNOWN = {
    *((module, "_reconstruct") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((module, "scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    *((module, "_frombuffer") for module in ("numpy.core.numeric", "numpy._core.numeric")),
    *(("numpy", name) for name in ("ndarray", "dtype")),
    *((module, name) for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "WindowsPath")),
}
# Opcodes that load data, and calls of what is named; all of them that pickles of arrays and plain objects use.
_OPCODES = {
    *("PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "DUP", "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"),
    *("GET", "BINGET", "LONG_BINGET", "NONE", "NEWTRUE", "NEWFALSE", "INT", "BININT", "BININT1", "BININT2", "LONG"),
    *("LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
    *("BINBYTES8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "EMPTY_LIST", "LIST", "APPEND"),
    *("APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
    *("EMPTY_SET", "ADDITEMS", "FROZENSET", "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "BYTEARRAY8"),
}
_STORING = ("PUT", "BINPUT", "LONG_BINPUT")
_INTEGER = re.compile(r"[<>|=]?[iu][1248]|[|]?b1")
_HIGHEST_LABEL = np.iinfo(np.int32).max


def read_seg_masks(path: str | os.PathLike) -> np.ndarray:
    """Reads the label image `masks` of a `_seg.npy`.

    Args:
        path: Path of the file.

    Returns:
        int32 `[H, W]`, 0 background; the numbers are those of the file.

    Raises:
        ImageFileError: The file cannot be read, is no such file, holds a stack, or names anything but NumPy's arrays.
    """
    path = Path(path)
    try:
        content = _load(path.read_bytes())
        if not isinstance(content, dict) or _KEY not in content:
            raise ValueError(f"expected a dictionary with {_KEY!r}")
        return _as_labels(content[_KEY])
    except OSError as error:
        raise ImageFileError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:  # A damaged pickle can fail with any error.
        raise ImageFileError(
            f"{path}: cannot be used as a {ENDING} of Cellpose ({error}). Save its masks as PNG or TIFF there"
        ) from error


def _load(data: bytes) -> Any:
    """Returns the object in the file, with a `_Call` for every array in it."""
    file = io.BytesIO(data)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in read_header:
        raise ValueError(f"version {version} of the format is unknown")
    shape, _, dtype = read_header[version](file)
    if dtype.kind != "O" or shape != ():
        raise ValueError(f"expected one object; found {dtype} {shape}")
    pickled = data[file.tell() :]
    _check_opcodes(pickled)
    outer = _Recorder(io.BytesIO(pickled)).load()
    # The dictionary is the only element of an array.
    (content,) = _state(outer, "_reconstruct")[4]
    return content


def _check_opcodes(pickled: bytes) -> None:
    stored = 0
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name not in _OPCODES:
            raise ValueError(f"the pickle's operation {opcode.name} is not needed for arrays and is refused")
        # Python makes room for as many objects as the highest number says.
        if opcode.name in _STORING and argument > stored + 1:
            raise ValueError("the numbers of the pickle's objects leave out some")
        stored += opcode.name in (*_STORING, "MEMOIZE")


class _Call:
    """Record of a call: name of the function, arguments, and the state that the result was given."""

    __slots__ = ("arguments", "name", "state")

    def __init__(self, name: str, arguments: tuple) -> None:
        self.name, self.arguments, self.state = name, arguments, None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __hash__(self) -> int:
        raise TypeError("an array cannot be a key")


class _Name:
    """A function or class that the file names; calling it is recorded."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *arguments: Any) -> _Call:
        return _Call(self.name, arguments)

    def __setstate__(self, _: Any) -> None:
        raise pickle.UnpicklingError(f"{self.name} cannot be changed")


class _Recorder(pickle.Unpickler):
    """Unpickler that imports nothing."""

    def find_class(self, module: str, name: str) -> _Name:
        """Returns the stand-in of what a file of Cellpose may name."""
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"it calls {module}.{name}, which no array needs; it may do harm")
        return _Name(name)

    def persistent_load(self, _: Any) -> Any:
        """Refuses objects outside the file."""
        raise pickle.UnpicklingError("it refers to objects outside the file")


def _state(call: Any, name: str) -> tuple:
    """Returns the state of a recorded array or dtype."""
    if not isinstance(call, _Call) or call.name != name or not isinstance(call.state, tuple):
        raise ValueError("expected an array")
    return call.state


def _as_labels(array: Any) -> np.ndarray:
    """Makes the label image from the record of an array."""
    if isinstance(array, _Call) and array.name == "_frombuffer":
        data, dtype, shape, order = array.arguments
        fortran = order == "F"
    else:
        _, shape, dtype, fortran, data = _state(array, "_reconstruct")
    # The code of a dtype, such as u2, and its state, whose second item is the byte order.
    endian = _state(dtype, "dtype")[1]
    code = f"{endian if endian in ('<', '>') else ''}{dtype.arguments[0]}"
    if not _INTEGER.fullmatch(code):
        raise ValueError(f"{_KEY} are no whole numbers but {code[:20]!r}")
    if not isinstance(shape, tuple) or len(shape) != 2 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ValueError(f"{_KEY} are no single plane but {str(shape)[:40]}")
    numbers = np.dtype(code)
    if not isinstance(data, bytes | bytearray) or len(data) != shape[0] * shape[1] * numbers.itemsize:
        raise ValueError(f"{_KEY} have another size than they state")
    labels = np.frombuffer(data, numbers).reshape(shape, order="F" if fortran else "C")
    if labels.min() < 0 or labels.max() > _HIGHEST_LABEL:
        raise ValueError(f"a label lies outside 0 to {_HIGHEST_LABEL}")
    return labels.astype(np.int32)
