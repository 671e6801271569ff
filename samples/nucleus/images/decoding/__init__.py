"""Decoding of image files of every supported format, for `nucleus.images.reading`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nucleus.images.decoding.base import ImageFileError, Meaning, decode_with_opencv
from nucleus.images.decoding.png import SIGNATURE as _PNG
from nucleus.images.decoding.png import decode_png
from nucleus.images.decoding.tiff import SIGNATURES as _TIFF
from nucleus.images.decoding.tiff import decode_tiff

__all__ = ["ImageFileError", "Meaning", "decode"]

_JPEG = b"\xff\xd8\xff"
_BMP = b"BM"


def decode(path: Path, meaning: Meaning = "image") -> np.ndarray:
    """Reads the samples of a file.

    Args:
        path: A PNG, TIFF, JPEG or BMP file; the format is detected from its first bytes.
        meaning: Use of the pixels. "image" and "mask" read the colours of a palette, "labels" its indices. In a TIFF
            that shows 0 as white, 0 is brightest in an "image" and 0 in a "mask" or in "labels", since programs mark
            nuclei by numbers, however they show them. "labels" refuses lossy compression.

    Returns:
        [H, W] grey, [H, W, 2] or [H, W, 3] RGB, of the file's sample type; alpha is dropped.

    Raises:
        ImageFileError: The file cannot be used; the message names it.
    """
    try:
        return _decode(path, meaning)
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error.__cause__


def _decode(path: Path, meaning: Meaning) -> np.ndarray:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageFileError(f"cannot be read ({error.strerror})") from error
    if not data:
        raise ImageFileError("the file is empty (0 bytes)")
    if data.startswith(_TIFF):
        return decode_tiff(data, meaning)
    if data.startswith(_PNG):
        return decode_png(data, meaning)
    if data.startswith(_JPEG):
        if meaning == "labels":
            raise ImageFileError("a JPEG cannot hold labels, since its losses change them: save them as PNG or TIFF")
        _check_jpeg(data)
    elif not data.startswith(_BMP):
        raise ImageFileError("is no PNG, TIFF, JPEG or BMP file")
    return decode_with_opencv(data)


def _check_jpeg(data: bytes) -> None:
    """Refuses a JPEG without an end-of-image marker after its last scan, which decoders fill up with grey."""
    if data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):
        raise ImageFileError(f"the JPEG is truncated ({len(data)} bytes)")
