"""Masks of nuclei: a threshold for the whole image or one that follows the light, then contours that move."""

from __future__ import annotations

import cv2
import numpy as np

from nucleus.models.classical.config import ClassicalConfig
from nucleus.models.classical.contours import chan_vese, edge_stopping, geodesic
from unet.targets import disk


def find_mask(levels: np.ndarray, config: ClassicalConfig) -> np.ndarray:
    """Finds the pixels of nuclei.

    Args:
        levels: float32 `[H, W]`, see `nucleus.models.classical.grey.nuclear_levels`.
        config: Settings THRESHOLD, LEVEL, LOCAL_WINDOW, LOCAL_OFFSET, those of the contours, and OPENING_RADIUS.

    Returns:
        bool `[H, W]`.
    """
    mask = levels > config.LEVEL
    if config.THRESHOLD == "local":
        mask &= brighter_than_around(levels, config.LOCAL_WINDOW, config.LOCAL_OFFSET)
    if config.OPENING_RADIUS:
        mask = cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_OPEN, disk(config.OPENING_RADIUS)).view(bool)
    if config.CONTOURS == "chan-vese":
        mask = chan_vese(levels, mask, config.ITERATIONS, config.CONTOUR_SMOOTHING, config.CONTOUR_WINDOW)
    elif config.CONTOURS == "geodesic":
        stopping = edge_stopping(levels, config.EDGE_SIGMA, config.EDGE_STEEPNESS)
        mask = geodesic(stopping, mask, config.ITERATIONS, config.CONTOUR_SMOOTHING, config.BALLOON)
    return mask


def brighter_than_around(levels: np.ndarray, window: int, offset: float) -> np.ndarray:
    """Finds what is above the mean of its surroundings, a threshold that follows uneven light.

    Args:
        levels: float32 `[H, W]`.
        window: Side in pixels, odd, of the square around each pixel. Where it holds nothing but background the mean
            is no threshold, and noise is found.
        offset: By how much a nucleus is above the mean at least.

    Returns:
        bool `[H, W]`.
    """
    return levels > cv2.blur(levels, (window, window), borderType=cv2.BORDER_REFLECT) + np.float32(offset)
