"""Single nuclei from a mask: connected components, or the watershed of the distance to the background."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from nucleus.images.labels import drop_small
from nucleus.models.classical.grey import smooth
from trainkit.settings import Settings
from unet.distance import distance_to_background
from unet.postprocess import fill_holes, grow_markers, grow_watershed, label_components

_SQUARE = np.ones((3, 3), np.uint8)
# A pixel and the next one, across and down.
_NEIGHBOURS = ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:]))


def separate(mask: np.ndarray, config: Settings) -> np.ndarray:
    """Divides a mask into nuclei.

    Args:
        mask: bool `[H, W]`.
        config: A `ClassicalConfig`; its section on nuclei is used.

    Returns:
        int32 `[H, W]`, 0 background, 1...N one nucleus each.
    """
    if config.FILL_HOLES:
        mask = fill_holes(mask.astype(np.int32)).astype(bool)
    return drop_small(SEPARATIONS[config.SEPARATION](mask, config), config.MIN_AREA)[0]


def distance_inside(mask: np.ndarray) -> np.ndarray:
    """Computes each pixel's distance to the background in pixels, float32 `[H, W]`; the image's edge is none."""
    return distance_to_background(np.pad(mask, 1, mode="edge"))[1:-1, 1:-1]


def split_at_necks(mask: np.ndarray, distance: np.ndarray, neck: float) -> np.ndarray:
    """Splits a mask by the watershed of its distance to the background.

    Every maximum of the distance floods its basin (Beucher and Lantuéjoul, "Use of watersheds in contour detection",
    1979). Then basins that meet at a wide neck are joined, the widest neck first, so that a bump in an outline does not
    become a nucleus of its own, whatever its size.

    Args:
        mask: bool `[H, W]`.
        distance: float32 `[H, W]`, distance to the background in pixels (`distance_inside`); may be smoothed.
        neck: Least width of a neck as a share of the narrower basin's, 0..1, at which two basins are joined.

    Returns:
        int32 `[H, W]`, 0 outside the mask; numbers may have gaps.
    """
    summits = mask & (distance == cv2.dilate(distance, _SQUARE))
    basins, count = grow_markers(distance, summits, mask, grow_watershed)
    heights = np.zeros(count + 1, np.float32)
    np.maximum.at(heights, basins.ravel(), distance.ravel())
    joined = list(range(count + 1))

    def representative(basin: int) -> int:
        while joined[basin] != basin:
            basin = joined[basin] = joined[joined[basin]]
        return basin

    for one, other, width in _necks(basins, distance):
        lower, higher = sorted((representative(one), representative(other)), key=lambda basin: heights[basin])
        if lower != higher and width >= neck * heights[lower]:
            joined[lower] = higher
    return np.array([representative(basin) for basin in range(count + 1)], np.int32)[basins]


def _necks(basins: np.ndarray, distance: np.ndarray) -> list[tuple[int, int, float]]:
    """Returns (basin, neighbour, largest distance where they meet), by descending distance."""
    ones, others, widths = [], [], []
    for here, there in _NEIGHBOURS:
        one, other = np.minimum(basins[here], basins[there]), np.maximum(basins[here], basins[there])
        meet = (one > 0) & (one != other)
        ones.append(one[meet])
        others.append(other[meet])
        widths.append(np.minimum(distance[here], distance[there])[meet])
    pairs, width = np.stack([np.concatenate(ones), np.concatenate(others)], axis=1), np.concatenate(widths)
    order = np.argsort(-width, kind="stable")
    _, widest = np.unique(pairs[order], axis=0, return_index=True)
    chosen = order[np.sort(widest)]
    return [(int(one), int(other), float(width[i])) for i, (one, other) in zip(chosen, pairs[chosen], strict=True)]


def _components(mask: np.ndarray, config: Settings) -> np.ndarray:
    return label_components(mask)[0]


def _watershed(mask: np.ndarray, config: Settings) -> np.ndarray:
    return split_at_necks(mask, smooth(distance_inside(mask), config.DISTANCE_SMOOTHING), config.NECK)


# Value of the setting SEPARATION -> function from a mask, bool [H, W], to a label image, int32 [H, W].
SEPARATIONS: dict[str, Callable[[np.ndarray, Settings], np.ndarray]] = {
    "components": _components,
    "watershed": _watershed,
}
