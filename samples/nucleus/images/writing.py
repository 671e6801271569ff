"""Atomic writing of image files: to a temporary file, which is then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import tifffile

from trainkit.files import atomic_path

HIGHEST_IN_16_BITS = np.iinfo(np.uint16).max


def write_labels(path: str | os.PathLike, labels: np.ndarray) -> None:
    """Writes a label image.

    Args:
        path: Path of the file; `.png` for a 16-bit PNG, `.tif` or `.tiff` for a compressed TIFF of uint16, or of int32
            if a label exceeds 65,535.
        labels: Integer `[H, W]`, not negative.

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
        tifffile.imwrite(temporary, pixels, compression="zlib")


def write_label_stack(
    path: str | os.PathLike,
    planes: Iterable[np.ndarray],
    shape: tuple[int, int, int, int],
    dtype: np.dtype,
    pixel_size: float | None = None,
) -> None:
    """Writes label images of several frames and planes as one compressed OME-TIFF.

    Args:
        path: Path of the file.
        planes: Label images `[H, W]`, plane by plane of the first frame, then those of the second, and so on.
        shape: Numbers of frames, planes, rows and columns.
        dtype: uint16 or int32.
        pixel_size: Side of a pixel in µm; None where it is not known.

    Raises:
        OSError: The file cannot be written.
    """
    metadata: dict[str, object] = {"axes": "TZYX"}
    if pixel_size is not None:
        metadata |= {"PhysicalSizeX": pixel_size, "PhysicalSizeY": pixel_size}
        metadata |= {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
    with atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            iter(planes),
            shape=shape,
            dtype=dtype,
            ome=True,
            photometric="minisblack",
            compression="zlib",
            metadata=metadata,
        )


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
