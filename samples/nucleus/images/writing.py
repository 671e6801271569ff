"""Atomic writing of image files: to a temporary file, which is then renamed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile

from trainkit.files import atomic_path

HIGHEST_IN_16_BITS = np.iinfo(np.uint16).max


def write_labels(path: str | os.PathLike, labels: np.ndarray, pixel_size: float | None = None) -> None:
    """Writes a label image.

    A TIFF states the size of a pixel, where it is known, as ImageJ does, and beyond uint16, which is the widest whole
    number that ImageJ knows, as OME-XML.

    Args:
        path: Path of the file; `.png` for a 16-bit PNG, `.tif` or `.tiff` for a compressed TIFF of uint16, or of int32
            if a label exceeds 65,535.
        labels: Integer `[H, W]`, not negative.
        pixel_size: Side of a pixel in µm, for a TIFF; None where it is not known.

    Raises:
        ValueError: The suffix is unknown, or a label does not fit into a PNG.
        OSError: The file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    highest = int(labels.max(initial=0))
    if suffix not in (".png", ".tif", ".tiff"):
        raise ValueError(f"{path}: a label image is written as .png, .tif or .tiff.")
    if suffix == ".png" and highest > HIGHEST_IN_16_BITS:
        raise ValueError(f"{path}: label {highest} does not fit into a 16-bit PNG; write a TIFF.")
    pixels = labels.astype(np.uint16 if highest <= HIGHEST_IN_16_BITS else np.int32)
    if suffix == ".png":
        _write_png(path, pixels)
        return
    with atomic_path(path) as temporary:
        tifffile.imwrite(temporary, pixels, compression="zlib", **_stated_size(pixels.dtype, pixel_size))


def _stated_size(dtype: np.dtype, pixel_size: float | None) -> dict[str, Any]:
    """Returns the options with which tifffile states the size of a pixel."""
    if pixel_size is None:
        return {}
    if dtype == np.uint16:
        return {"imagej": True, "resolution": (1 / pixel_size, 1 / pixel_size), "metadata": {"unit": "um"}}
    sizes = {f"PhysicalSize{axis}": pixel_size for axis in "XY"}
    return {"ome": True, "metadata": sizes | {f"{name}Unit": "µm" for name in sizes}}


def write_rgb(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes an RGB image as a PNG.

    Args:
        path: Path of the file, ending in `.png`.
        image: uint8 `[H, W, 3]` RGB.

    Raises:
        OSError: The file cannot be written.
    """
    _write_png(path, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def _write_png(path: str | os.PathLike, pixels: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), pixels):
            raise OSError(f"{path}: OpenCV could not write the image.")
