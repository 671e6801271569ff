"""Exact Hausdorff distances between instances of two label images, without a mask for each instance."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from nucleus.evaluation.scores.overlaps import instance_indices
from nucleus.images.labels import differing_sides


class Shapes:
    """Instances of one label image, prepared for distances and addressed by their index in the ascending labels.

    Args:
        labels: Integer `[H, W]`, 0 background.
    """

    def __init__(self, labels: np.ndarray) -> None:
        ids, self._indices = instance_indices(labels)
        self._pixels, self._starts = _grouped(self._indices, self._indices >= 0, len(ids))
        self._border, self._border_starts = _grouped(self._indices, _outlines(self._indices), len(ids))
        self._trees: dict[int, cKDTree] = {}
        # (top, left, bottom, right) of each instance, the last two inclusive.
        corners = [self._pixels[:0]] * 2
        if len(ids):
            corners = [extreme.reduceat(self._pixels, self._starts[:-1]) for extreme in (np.minimum, np.maximum)]
        self.extents = np.concatenate(corners, axis=1)

    def points(self, index: int) -> np.ndarray:
        """Returns the pixels of an instance, int64 `[n, 2]` as (y, x)."""
        return self._pixels[self._starts[index] : self._starts[index + 1]]

    def holds(self, index: int, points: np.ndarray) -> np.ndarray:
        """Returns whether each of `points`, int `[n, 2]` as (y, x), is in the instance, bool `[n]`."""
        return self._indices[points[:, 0], points[:, 1]] == index

    def outline(self, index: int) -> cKDTree:
        """Returns a k-d tree of the instance's pixels that have one of four neighbours outside."""
        if index not in self._trees:
            pixels = self._border[self._border_starts[index] : self._border_starts[index + 1]]
            self._trees[index] = cKDTree(pixels, balanced_tree=False, compact_nodes=False)
        return self._trees[index]


def hausdorff(first: Shapes, i: int, second: Shapes, j: int) -> float:
    """Computes the Hausdorff distance of two instances: the largest distance of a pixel of either to the other.

    Args:
        first: Instances of one label image.
        i: Index of an instance in `first`.
        second: Instances of another label image of the same size.
        j: Index of an instance in `second`.

    Returns:
        The distance in pixels; 0 for equal instances.
    """
    return max(_directed(first, i, second, j), _directed(second, j, first, i))


def nearest(first: Shapes, i: int, second: Shapes) -> float:
    """Computes the smallest Hausdorff distance of an instance to any instance of another label image.

    The largest difference between corresponding sides of two bounding boxes is a lower bound of the distance. Instances
    are tried in the order of that bound, until it reaches the smallest distance so far.

    Args:
        first: Instances of one label image.
        i: Index of an instance in `first`.
        second: Instances of another label image of the same size; at least one.

    Returns:
        The distance in pixels.
    """
    bounds = np.abs(second.extents - first.extents[i]).max(axis=1)
    smallest = np.inf
    for j in np.argsort(bounds, kind="stable"):
        if bounds[j] >= smallest:
            break
        smallest = min(smallest, hausdorff(first, i, second, int(j)))
    return smallest


def _directed(first: Shapes, i: int, second: Shapes, j: int) -> float:
    """Returns the largest distance of the pixels of one instance to the other.

    Pixels inside the other have distance 0, and the nearest pixel to one outside lies on the outline.
    """
    points = first.points(i)
    outside = points[~second.holds(j, points)]
    return float(second.outline(j).query(outside)[0].max(initial=0.0))


def _outlines(indices: np.ndarray) -> np.ndarray:
    """Returns the pixels next to (of four neighbours) another index or the image's edge, bool `[H, W]`."""
    sides = differing_sides(np.pad(indices, 1, constant_values=-1))
    return (indices >= 0) & sides[:, 1:-1, 1:-1].any(axis=0)


def _grouped(indices: np.ndarray, wanted: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the coordinates `[n, 2]` of the wanted pixels, sorted by index, and each index's start `[count + 1]`."""
    places = np.argwhere(wanted)
    owners = indices[wanted]
    return places[np.argsort(owners, kind="stable")], np.searchsorted(np.sort(owners), np.arange(count + 1))
