"""Decoding of image files of every supported format, for `nucleus.images.reading`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from nucleus.images.decoding.array import ArrayImage
from nucleus.images.decoding.base import ImageFileError, Meaning, RawImage, decode_with_opencv
from nucleus.images.decoding.bio import find_format, open_bio
from nucleus.images.decoding.headers import BMP, JPEG, check_bmp, check_jpeg
from nucleus.images.decoding.ome_zarr import is_zarr, open_zarr
from nucleus.images.decoding.opened import OpenImage, Region
from nucleus.images.decoding.planes import ALL, COLOURS, FIRST, NO_CHOICE, PROJECTIONS, Place, Planes
from nucleus.images.decoding.png import SIGNATURE as _PNG
from nucleus.images.decoding.png import decode_png
from nucleus.images.decoding.slide import SlideImage, find_slide
from nucleus.images.decoding.tiff import SIGNATURES as _TIFF
from nucleus.images.decoding.tiff import TiffImage

__all__ = [
    "ALL",
    "FIRST",
    "NO_CHOICE",
    "PROJECTIONS",
    "ImageFileError",
    "Meaning",
    "OpenImage",
    "Place",
    "Planes",
    "RawImage",
    "Region",
    "decode",
    "naming",
    "open_image",
]


def decode(path: Path, meaning: Meaning = "image", planes: Planes = NO_CHOICE, every_channel: bool = False) -> RawImage:
    """Reads the samples of a file.

    Args:
        path: A file of a supported format, which is detected from its first bytes.
        meaning: Use of the pixels. "image" and "mask" read the colours of a palette, "labels" its indices. In a TIFF
            that shows 0 as white, 0 is brightest in an "image" and 0 in a "mask" or in "labels", since programs mark
            nuclei by numbers, however they show them. "labels" refuses lossy compression.
        planes: Choice of channel, plane, frame and scene.
        every_channel: Reads all channels, also those that are not chosen, and the pixel size.

    Returns:
        The samples of the file's sample type; alpha is dropped.

    Raises:
        ImageFileError: The file cannot be used, or it holds several images and none is chosen; the message names it.
    """
    with naming(path), open_image(path, meaning, planes) as image:
        return image.read(planes, every_channel)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Puts a file's name before the message of an ImageFileError inside a block.

    Args:
        path: The file.
    """
    try:
        yield
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error.__cause__


def open_image(path: Path, meaning: Meaning = "image", planes: Planes = NO_CHOICE) -> OpenImage:
    """Opens a file, without decoding its pixels where that is not needed.

    Args:
        path: A file of a supported format, which is detected from its first bytes.
        meaning: Use of the pixels; see `decode`.
        planes: Choice of channel and scene.

    Raises:
        ImageFileError: The file cannot be used, or holds several scenes of which none is chosen. The message does not
            name the file; see `naming`.
    """
    if path.is_dir() and is_zarr(path):
        return open_zarr(path, meaning, planes)
    try:
        with open(path, "rb") as file:
            head = file.read(16)
            if head.startswith(_PNG):
                return _in_memory(decode_png(head + file.read(), meaning), planes)
            microscope = find_format(head)
            slide = find_slide(path, head.startswith(_TIFF))
            data = b""
            if microscope is None and slide is None and not head.startswith(_TIFF):
                file.seek(0)
                data = file.read()
    except OSError as error:
        raise ImageFileError(f"cannot be read ({error.strerror})") from error
    if not head:
        raise ImageFileError("the file is empty (0 bytes)")
    if slide is not None:
        return SlideImage(path, slide, meaning, planes)
    if head.startswith(_TIFF):
        return TiffImage(path, meaning, planes)
    if microscope is not None:
        return open_bio(path, microscope, meaning, planes)
    return _in_memory(_decode_other(data, meaning), planes)


def _in_memory(pixels: np.ndarray, planes: Planes) -> OpenImage:
    """Returns decoded pixels, `[H, W]` grey or `[H, W, 3]` RGB, as an image of one scene."""
    planes.choose_scene([""])
    return ArrayImage([pixels], "YXC"[: pixels.ndim], ("",) if pixels.ndim == 2 else COLOURS, colour=True)


def _decode_other(data: bytes, meaning: Meaning) -> np.ndarray:
    """Decodes a JPEG or BMP: `[H, W]` grey or `[H, W, 3]` RGB."""
    if data.startswith(JPEG):
        if meaning == "labels":
            raise ImageFileError("a JPEG cannot hold labels, since its losses change them: save them as PNG or TIFF")
        check_jpeg(data)
    elif data.startswith(BMP):
        check_bmp(data)
    else:
        raise ImageFileError("is no PNG, TIFF, JPEG or BMP file, and no CZI, ND2 or LIF")
    return decode_with_opencv(data)
