"""Masks of nuclei by a threshold: one for the whole image, or one that follows the light around each pixel."""

from __future__ import annotations

import cv2
import numpy as np
from skimage.filters import threshold_otsu


def otsu_levels(grey: np.ndarray) -> np.ndarray | None:
    """Scales grey levels so that Otsu's two classes have the means 0 and 1.

    Otsu's threshold ("A threshold selection method from gray-level histograms", 1979) lies half-way between the means
    of the two classes that it makes, so it is 0.5 of these levels, but for the width of a bin of the histogram.

    Args:
        grey: float32 `[H, W]`, nuclei bright.

    Returns:
        float32 `[H, W]`, or None if all pixels are alike.
    """
    if grey.min() == grey.max():
        return None
    bright = grey > threshold_otsu(grey)
    background, nuclei = grey[~bright].mean(), grey[bright].mean()
    return (grey - background) / (nuclei - background)


def class_distance(grey: np.ndarray) -> float:
    """Returns by how much the means of Otsu's two classes differ."""


def local_mask(levels: np.ndarray, window: int, offset: float, floor: float) -> np.ndarray:
    """Finds what is brighter than its surroundings.

    A window without nuclei has no threshold of its own, so a purely local one finds noise there; a floor for the whole
    image keeps that out.

    Args:
        levels: float32 `[H, W]`, see `otsu_levels`.
        window: Side in pixels, odd, of the square around each pixel whose mean is its threshold.
        offset: By how much more than this mean a nucleus has.
        floor: What a nucleus has at least.

    Returns:
        bool `[H, W]`.
    """
    around = cv2.blur(levels, (window, window), borderType=cv2.BORDER_REFLECT)
    return (levels > around + offset) & (levels > floor)
