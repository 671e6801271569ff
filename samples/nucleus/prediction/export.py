"""Writes what was found: label images, overlays, Kaggle's submission file, and a table with one row a nucleus.

Every file is written beside its destination first and renamed then, so a reader never sees half of one.
"""

from __future__ import annotations

import colorsys
import os
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import tifffile
from skimage.measure import regionprops_table

from nucleus.images.labels import labels_to_rle
from trainkit.files import atomic_path

SUBMISSION_COLUMNS = ("ImageId", "EncodedPixels")
IMAGES_COLUMNS = ("ImageId", "file", "height", "width", "nuclei")
# Column of nuclei.csv -> property of skimage.measure.regionprops.
_PROPERTIES = {
    "label": "label",
    "area": "area",
    "centroid_y": "centroid-0",
    "centroid_x": "centroid-1",
    "y1": "bbox-0",
    "x1": "bbox-1",
    "y2": "bbox-2",
    "x2": "bbox-3",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
    "mean_intensity": "intensity_mean",
}
NUCLEI_COLUMNS = ("ImageId", "label", "score", *(name for name in _PROPERTIES if name != "label"))
# Hues half a golden section apart: neighbours in label order differ strongly.
_GOLDEN_SECTION = 0.618034


def write_labels(path: str | os.PathLike, labels: np.ndarray) -> None:
    """Writes a label image.

    Args:
        path: The file; `.png` gives a 16-bit PNG, `.tif` or `.tiff` a compressed TIFF of uint16, or of int32 where
            a label exceeds 65,535.
        labels: Integer `[H, W]`, not negative.

    Raises:
        ValueError: The suffix is another one, or a label does not fit into a PNG.
        OSError: The file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    highest = int(labels.max(initial=0))
    if suffix not in (".png", ".tif", ".tiff"):
        raise ValueError(f"{path}: a label image is written as .png, .tif or .tiff.")
    if suffix == ".png" and highest > np.iinfo(np.uint16).max:
        raise ValueError(f"{path}: label {highest} does not fit into a 16-bit PNG; write a TIFF.")
    pixels = labels.astype(np.uint16 if highest <= np.iinfo(np.uint16).max else np.int32)
    with atomic_path(path) as temporary:
        if suffix == ".png":
            _write_png(temporary, pixels)
        else:
            tifffile.imwrite(temporary, pixels, compression="zlib")


def write_overlay(path: str | os.PathLike, image: np.ndarray, labels: np.ndarray) -> None:
    """Writes the image with the outlines of its nuclei (see `draw_outlines`) as a PNG.

    Args:
        path: The file, ending in `.png`.
        image: uint8 `[H, W, 3]` RGB.
        labels: Integer `[H, W]`.

    Raises:
        OSError: The file cannot be written.
    """
    with atomic_path(path) as temporary:
        _write_png(temporary, cv2.cvtColor(draw_outlines(image, labels), cv2.COLOR_RGB2BGR))


def draw_outlines(image: np.ndarray, labels: np.ndarray, colour: tuple[int, int, int] | None = None) -> np.ndarray:
    """Draws the outline of every nucleus, so that it shows on bright and on dark images.

    A nucleus's own border pixels take a bright colour; the background pixels next to them are darkened, which
    sets the colour off where the image is bright.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        labels: Integer `[H, W]`.
        colour: RGB, 0 to 255, of all outlines; by default one colour a nucleus.

    Returns:
        A new uint8 `[H, W, 3]` RGB image.

    Raises:
        ValueError: The shapes do not fit.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f"Image and labels differ in shape. Received: {image.shape[:2]} and {labels.shape}")
    border = _borders(labels)
    drawn = image.copy()
    drawn[border & (labels == 0)] //= 3
    inner = border & (labels > 0)
    drawn[inner] = _palette(int(labels.max(initial=0)))[labels[inner]] if colour is None else colour
    return drawn


def submission_rows(image_id: str, labels: np.ndarray) -> list[tuple[str, str]]:
    """Encodes a label image for Kaggle's submission file.

    Args:
        image_id: Name of the image.
        labels: Integer `[H, W]`.

    Returns:
        (image_id, run lengths) of every nucleus; (image_id, "") if there is none.
    """
    return [(image_id, code) for code in labels_to_rle(labels) if code] or [(image_id, "")]


def write_submission(path: str | os.PathLike, rows: Iterable[tuple[str, str]]) -> None:
    """Writes `submission.csv`: `ImageId,EncodedPixels`, one row a nucleus, `ImageId,` where an image has none.

    Args:
        path: The file.
        rows: From `submission_rows`.

    Raises:
        OSError: The file cannot be written.
    """
    _write_csv(path, pd.DataFrame(rows, columns=SUBMISSION_COLUMNS))


def nuclei_table(image_id: str, image: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> pd.DataFrame:
    """Measures every nucleus.

    Args:
        image_id: Name of the image.
        image: uint8 `[H, W, 3]` RGB, as read from the file.
        labels: int32 `[H, W]` with labels 1..N.
        scores: float `[N]`; `scores[k]` belongs to label k + 1.

    Returns:
        One row a nucleus: ImageId, label, score, area (pixels), centroid_y and centroid_x (pixels from the centre
        of the first pixel), y1, x1, y2, x2 (bounding box, y2 and x2 exclusive), eccentricity (0 circle .. 1 line,
        of the ellipse with the same second moments), solidity (area over that of the convex hull) and
        mean_intensity (of the luminance, ITU-R BT.601, 0..255).
    """
    if not labels.any():
        return pd.DataFrame(columns=NUCLEI_COLUMNS)
    luminance = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    wanted = ("label", "area", "centroid", "bbox", "eccentricity", "solidity", "intensity_mean")
    measured = regionprops_table(labels, luminance, properties=wanted)
    table = pd.DataFrame({name: measured[key] for name, key in _PROPERTIES.items()})
    table["area"] = table["area"].astype(np.int64)
    table.insert(0, "ImageId", image_id)
    table.insert(2, "score", np.asarray(scores)[measured["label"] - 1])
    return table


def write_nuclei(path: str | os.PathLike, tables: Iterable[pd.DataFrame]) -> None:
    """Writes `nuclei.csv`, one row a nucleus.

    Args:
        path: The file.
        tables: From `nuclei_table`; of images without nuclei nothing is written.

    Raises:
        OSError: The file cannot be written.
    """
    filled = [table for table in tables if len(table)]
    joined = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=NUCLEI_COLUMNS)
    _write_csv(path, joined, float_format="%.4f")


def write_images(path: str | os.PathLike, rows: Iterable[tuple[str, str, int, int, int]]) -> None:
    """Writes `images.csv`, one row an image: ImageId, file, height and width in pixels, nuclei.

    Args:
        path: The file.
        rows: Those five of each image.

    Raises:
        OSError: The file cannot be written.
    """
    _write_csv(path, pd.DataFrame(rows, columns=IMAGES_COLUMNS))


def _borders(labels: np.ndarray) -> np.ndarray:
    """Returns bool `[H, W]`: pixels with a neighbour above, below, left or right of another label."""
    border = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= right
    border[:, :-1] |= right
    return border


def _palette(count: int) -> np.ndarray:
    """Returns uint8 `[count + 1, 3]` saturated RGB colours by label; 0 is black."""
    colours = [colorsys.hsv_to_rgb(label * _GOLDEN_SECTION % 1, 0.9, 1) for label in range(1, count + 1)]
    return np.vstack([np.zeros((1, 3)), np.reshape(colours, (-1, 3)) * 255]).astype(np.uint8)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    if not cv2.imwrite(str(path), pixels):
        raise OSError(f"{path}: OpenCV could not write the image.")


def _write_csv(path: str | os.PathLike, table: pd.DataFrame, float_format: str | None = None) -> None:
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format=float_format, lineterminator="\n")
