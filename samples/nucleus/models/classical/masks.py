"""Masks of nuclei: a global or a local threshold, a morphological opening, then active contours."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from nucleus.models.classical.contours import chan_vese, edge_stopping, geodesic
from trainkit.settings import Settings
from unet.targets import disk


def find_mask(levels: np.ndarray, config: Settings) -> np.ndarray:
    """Finds the pixels of nuclei.

    Args:
        levels: float32 `[H, W]`, background about 0 and nuclei about 1 (`grey.GreyRange.levels`).
        config: A `ClassicalConfig`; its sections on masks and active contours are used.

    Returns:
        bool `[H, W]`.
    """
    mask = THRESHOLDS[config.THRESHOLD](levels, config)
    if config.OPENING_RADIUS:
        mask = cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_OPEN, disk(config.OPENING_RADIUS)).view(bool)
    return CONTOURS[config.CONTOURS](levels, mask, config)


def brighter_than_around(levels: np.ndarray, window: int, offset: float) -> np.ndarray:
    """Finds the pixels above the mean of their surroundings, a threshold that follows uneven light.

    Args:
        levels: float32 `[H, W]`.
        window: Side in pixels, odd, of the square around each pixel. Where it holds only background, noise is found.
        offset: Smallest difference of a nucleus to the mean, in the unit of `levels`.

    Returns:
        bool `[H, W]`.
    """
    return levels > cv2.blur(levels, (window, window), borderType=cv2.BORDER_REFLECT) + np.float32(offset)


def _global(levels: np.ndarray, config: Settings) -> np.ndarray:
    return levels > config.LEVEL


def _local(levels: np.ndarray, config: Settings) -> np.ndarray:
    return _global(levels, config) & brighter_than_around(levels, config.LOCAL_WINDOW, config.LOCAL_OFFSET)


def _unchanged(levels: np.ndarray, mask: np.ndarray, config: Settings) -> np.ndarray:
    return mask


def _chan_vese(levels: np.ndarray, mask: np.ndarray, config: Settings) -> np.ndarray:
    return chan_vese(levels, mask, config.ITERATIONS, config.CONTOUR_SMOOTHING, config.CONTOUR_WINDOW)


def _geodesic(levels: np.ndarray, mask: np.ndarray, config: Settings) -> np.ndarray:
    stopping = edge_stopping(levels, config.EDGE_SIGMA, config.EDGE_STEEPNESS)
    return geodesic(stopping, mask, config.ITERATIONS, config.CONTOUR_SMOOTHING, config.BALLOON)


# Value of the setting THRESHOLD or CONTOURS -> function that makes or moves a mask, bool [H, W].
THRESHOLDS: dict[str, Callable[[np.ndarray, Settings], np.ndarray]] = {"otsu": _global, "local": _local}
CONTOURS: dict[str, Callable[[np.ndarray, np.ndarray, Settings], np.ndarray]] = {
    "none": _unchanged,
    "chan-vese": _chan_vese,
    "geodesic": _geodesic,
}
