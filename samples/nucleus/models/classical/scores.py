"""Scores of nuclei without a network: contrast to the surroundings times convexity."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import ndimage

from nucleus.images.labels import areas
from unet.targets import disk

# Width in pixels of the surroundings that a nucleus is compared with.
_RIM = 3


def score_nuclei(labels: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Scores nuclei by the product of `border_contrast` and `solidity`.

    A smear without a border has little contrast, and merged nuclei or parts of one are seldom convex.

    Args:
        labels: int32 `[H, W]`, labels 0...N without a gap.
        levels: float32 `[H, W]`, background about 0 and nuclei about 1.

    Returns:
        float32 `[N]` in 0..1.
    """
    return border_contrast(labels, levels) * solidity(labels)


def border_contrast(labels: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Computes the relative drop of the level across each nucleus's border.

    Args:
        labels: int32 `[H, W]`, labels 0...N without a gap.
        levels: float32 `[H, W]`, background about 0 and nuclei about 1.

    Returns:
        float32 `[N]`: 1 - rim / inside, where `inside` is the mean level of the nucleus and `rim` that of the
        background within 3 pixels of it; clipped to 0..1, and 0 where other nuclei leave no such background.
    """
    count = int(labels.max(initial=0))
    # OpenCV cannot dilate int32; float32 represents whole numbers up to 2**24.
    around = cv2.dilate(labels.astype(np.float32), disk(_RIM)).astype(np.int32)
    around[labels > 0] = 0
    inside, rim = _means(labels, levels, count), _means(around, levels, count)
    contrast = 1 - rim / np.maximum(inside, np.finfo(np.float32).tiny)
    return np.where(np.isnan(contrast), 0, contrast).clip(0, 1).astype(np.float32)


def solidity(labels: np.ndarray) -> np.ndarray:
    """Computes each label's area as a share of its convex hull's, float32 `[N]` in 0..1."""
    hulls = [_hull_pixels(found) for found in _masks(labels)]
    return (areas(labels) / np.array(hulls, np.float64)).astype(np.float32)


def _means(labels: np.ndarray, levels: np.ndarray, count: int) -> np.ndarray:
    """Returns the mean level of each label, float64 `[count]`; NaN for a label without a pixel."""
    sums = np.bincount(labels.ravel(), weights=levels.ravel(), minlength=count + 1)[1:]
    pixels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    return np.divide(sums, pixels, out=np.full(count, np.nan), where=pixels > 0)


def _masks(labels: np.ndarray):
    for number, window in enumerate(ndimage.find_objects(labels), start=1):
        yield labels[window] == number


def _hull_pixels(mask: np.ndarray) -> float:
    """Counts the pixel centres in the convex hull of a mask's pixel centres, by Pick's theorem."""
    hull = cv2.convexHull(np.argwhere(mask).astype(np.int32))[:, 0]
    steps = np.abs(hull - np.roll(hull, 1, axis=0))
    return cv2.contourArea(hull) + np.gcd(steps[:, 0], steps[:, 1]).sum() / 2 + 1
