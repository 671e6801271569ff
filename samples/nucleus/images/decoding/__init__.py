"""Image files as they are stored, of every format that is read; `nucleus.images.reading` makes images and labels of them."""

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
        path: A PNG, TIFF, JPEG or BMP file, told by its first bytes.
        meaning: Of a palette an image or a mask has the colours and labels the indices. Where a TIFF's 0 is white, an
            image is brightest there, and masks and labels are 0: programs mark nuclei by numbers, however they show
            them. Labels with losses are refused.

    Returns:
        [H, W] grey, [H, W, 2] or [H, W, 3] RGB of the file's type, alpha dropped.

    Raises:
        ImageFileError: The file cannot be used; the message does not name it.
    """
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
    """A complete JPEG ends its last scan with the end-of-image marker; decoders fill a cut-off one with grey."""
    if data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):
        raise ImageFileError(f"the JPEG is truncated ({len(data)} bytes)")
