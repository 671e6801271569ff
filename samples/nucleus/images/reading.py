"""Image files in, `uint8 [H, W, 3]` RGB out.

The rules, in one place:

* PNG, TIFF, JPEG and BMP are read; the format is told by the file's first bytes, never by its name.
* Grayscale, 1-bit and palette images become RGB. An alpha channel is dropped (not blended): in microscopy it
  marks nothing. 1-bit images become 0 and 255.
* CMYK becomes RGB without a colour profile: what each ink and black let through, multiplied.
* 8-bit samples are kept as they are. Anything else (16-bit, 32-bit, float) is scaled linearly so that the image's
  own 0.1th percentile becomes 0 and its 99.9th percentile 255, one scale for all channels, values outside clipped.
  An image so sparse that both percentiles agree is scaled from its minimum to its maximum; a constant one is black.
  Samples that are not finite become 0.
* A TIFF that holds a stack is refused: which plane is meant is not ours to guess. Where a TIFF holds several
  separate images (a pyramid, a thumbnail) the first is read.
* Two or three channels that a TIFF calls so (axes CYX, as ImageJ and OME write them) are red, green and blue in their
  order, whatever colours the file shows them in; of two, blue is 0.
* Pixels are taken in stored order: an EXIF orientation is ignored, as masks are drawn on stored pixels.
"""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from nucleus.images.decoding import ImageFileError, decode

__all__ = ["IMAGE_SUFFIXES", "ImageFileError", "list_images", "read_image", "read_labels", "read_mask", "to_rgb"]

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")

_SCALE_PERCENTILES = (0.1, 99.9)
_HIGHEST_LABEL = np.iinfo(np.int32).max


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads an image file of any mode.

    Args:
        path: a PNG, TIFF, JPEG or BMP file.

    Returns:
        uint8 [H, W, 3], RGB, by the rules at the top of this module.

    Raises:
        ImageFileError: the file is missing, empty, truncated, damaged, of no pixels, or of an unknown format.
    """
    try:
        return to_rgb(decode(Path(path)))
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error.__cause__


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Reads a mask file: every pixel with a non-zero grey value or colour belongs to the mask.

    Args:
        path: as for `read_image`. An alpha channel is ignored; where a TIFF's 0 is white, 0 is outside all the same.

    Returns:
        bool [H, W].

    Raises:
        ImageFileError: as for `read_image`.
    """
    try:
        pixels = decode(Path(path), "mask")
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error.__cause__
    mask = pixels != 0
    return mask if mask.ndim == 2 else mask.any(axis=-1)


def read_labels(path: str | os.PathLike) -> np.ndarray:
    """Reads a label image, of this project or of another.

    Args:
        path: A PNG, TIFF or BMP file of whole numbers, which may be stored as floats. What is stored counts, not the
            colour that it stands for: of a palette the indices, and 0 where a TIFF's 0 is white. Of three equal
            channels one is read; alpha is dropped.

    Returns:
        int32 [H, W], 0 background; the numbers are those of the file.

    Raises:
        ImageFileError: as for `read_image`; also if the file is a JPEG, whose losses make up labels, or has channels
            that differ, fractions, negative numbers or numbers above the highest int32.
    """
    try:
        return _to_labels(decode(Path(path), "labels"))
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error.__cause__


def list_images(folder: str | os.PathLike) -> list[Path]:
    """The image files (by suffix) that lie directly in a folder, sorted by name; hidden files are left out."""
    return sorted(
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Brings decoded samples to 8-bit RGB.

    Args:
        pixels: [H, W] grey, [H, W, 2] red and green or [H, W, 3] RGB samples of any real dtype.

    Returns:
        uint8 [H, W, 3], by the rules at the top of this module; 8-bit RGB comes back as it is, uncopied.
    """
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif pixels.dtype != np.uint8:
        pixels = _scale_to_uint8(pixels)
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    elif pixels.shape[2] == 2:
        pixels = np.pad(pixels, ((0, 0), (0, 0), (0, 1)))
    return pixels


def _to_labels(pixels: np.ndarray) -> np.ndarray:
    what = f"no label image but {pixels.dtype} pixels of shape {pixels.shape}"
    if pixels.ndim == 3:
        if (pixels != pixels[..., :1]).any():
            raise ImageFileError(f"{what}, whose channels differ: save each nucleus' number in one channel")
        pixels = pixels[..., 0]
    if np.issubdtype(pixels.dtype, np.floating) and not (np.isfinite(pixels) & (pixels == np.rint(pixels))).all():
        raise ImageFileError(f"{what}, which are no whole numbers")
    if pixels.min() < 0:
        raise ImageFileError(f"{what}, of which some are negative")
    if pixels.max() > _HIGHEST_LABEL:
        raise ImageFileError(f"a label is above {_HIGHEST_LABEL}")
    return pixels.astype(np.int32)


def _scale_to_uint8(pixels: np.ndarray) -> np.ndarray:
    finite = np.isfinite(pixels)
    values = pixels[finite]
    if values.size == 0:
        return np.zeros(pixels.shape, np.uint8)
    low, high = np.percentile(values.astype(np.float64), _SCALE_PERCENTILES)
    if low == high:
        low, high = float(values.min()), float(values.max())
    if low == high:
        return np.zeros(pixels.shape, np.uint8)
    scaled = (np.where(finite, pixels, low).astype(np.float64) - low) * (255.0 / (high - low))
    return np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)
