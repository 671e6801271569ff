"""Decoding of image files of every supported format, for `nucleus.images.reading`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nucleus.images.decoding.base import ImageFileError, Meaning, RawImage, decode_with_opencv
from nucleus.images.decoding.planes import COLOURS, FIRST, NO_CHOICE, PROJECTIONS, Planes
from nucleus.images.decoding.png import SIGNATURE as _PNG
from nucleus.images.decoding.png import decode_png
from nucleus.images.decoding.tiff import SIGNATURES as _TIFF
from nucleus.images.decoding.tiff import decode_tiff

__all__ = ["FIRST", "NO_CHOICE", "PROJECTIONS", "ImageFileError", "Meaning", "Planes", "RawImage", "decode"]

_JPEG = b"\xff\xd8\xff"
_BMP = b"BM"


def decode(path: Path, meaning: Meaning = "image", planes: Planes = NO_CHOICE, every_channel: bool = False) -> RawImage:
    """Reads the samples of a file.

    Args:
        path: A PNG, TIFF, JPEG or BMP file; the format is detected from its first bytes.
        meaning: Use of the pixels. "image" and "mask" read the colours of a palette, "labels" its indices. In a TIFF
            that shows 0 as white, 0 is brightest in an "image" and 0 in a "mask" or in "labels", since programs mark
            nuclei by numbers, however they show them. "labels" refuses lossy compression.
        planes: Choice of channel, plane and frame.
        every_channel: Reads all channels, also those that are not chosen, and the pixel size.

    Returns:
        The samples of the file's sample type; alpha is dropped.

    Raises:
        ImageFileError: The file cannot be used, or it holds several images and none is chosen; the message names it.
    """
    try:
        return _decode(path, meaning, planes, every_channel)
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error.__cause__


def _decode(path: Path, meaning: Meaning, planes: Planes, every_channel: bool) -> RawImage:
    try:
        with open(path, "rb") as file:
            head = file.read(8)
            data = b"" if head.startswith(_TIFF) else head + file.read()
    except OSError as error:
        raise ImageFileError(f"cannot be read ({error.strerror})") from error
    if not head:
        raise ImageFileError("the file is empty (0 bytes)")
    if head.startswith(_TIFF):
        return decode_tiff(path, meaning, planes, every_channel)
    return _choose(_decode_other(data, meaning), planes, every_channel)


def _decode_other(data: bytes, meaning: Meaning) -> np.ndarray:
    """Decodes a PNG, JPEG or BMP: `[H, W]` grey or `[H, W, 3]` RGB."""
    if data.startswith(_PNG):
        return decode_png(data, meaning)
    if data.startswith(_JPEG):
        if meaning == "labels":
            raise ImageFileError("a JPEG cannot hold labels, since its losses change them: save them as PNG or TIFF")
        _check_jpeg(data)
    elif not data.startswith(_BMP):
        raise ImageFileError("is no PNG, TIFF, JPEG or BMP file")
    return decode_with_opencv(data)


def _choose(pixels: np.ndarray, planes: Planes, every_channel: bool) -> RawImage:
    names = ("",) if pixels.ndim == 2 else COLOURS
    chosen = planes.choose(1, 1, names, colour=True).channels
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    if every_channel or chosen == tuple(range(len(names))):
        return RawImage(pixels, names, chosen)
    return RawImage(pixels[..., list(chosen)], tuple(names[i] for i in chosen), tuple(range(len(chosen))))


def _check_jpeg(data: bytes) -> None:
    """Refuses a JPEG without an end-of-image marker after its last scan, which decoders fill up with grey."""
    if data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):
        raise ImageFileError(f"the JPEG is truncated ({len(data)} bytes)")
