"""Overlaps of two label images, from which all scores are computed.

Label images are disjoint, so the overlaps of all pairs are one histogram over the pixels: O(H W) time, and memory only
for pairs that share pixels. Labels may have any integer type and gaps; 0 is background.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

# Bins up to which a dense histogram of label pairs is faster than sorting the pixels (32 MB of counts).
_DENSE_BINS = 1 << 22
_NO_PIXELS = np.zeros((0, 0), np.int32)
_HIGHEST = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Overlaps:
    """Two label images with the areas and overlaps of their instances.

    Attributes:
        truth: Integer `[H, W]`, the label image of the ground truth, not copied.
        predicted: Integer `[H, W]`, the label image of the prediction, not copied.
        truth_ids: int64 `[T]`, labels of the ground truth, ascending; uint64 where int64 cannot hold them.
        truth_areas: int64 `[T]`, pixels of each true instance.
        predicted_ids: int64 `[P]`, labels of the prediction, ascending; uint64 where int64 cannot hold them.
        predicted_areas: int64 `[P]`, pixels of each predicted instance.
        truth_index: int64 `[K]`, index into truth_ids of each pair that shares pixels.
        predicted_index: int64 `[K]`, index into predicted_ids of each pair that shares pixels.
        intersections: int64 `[K]`, number of shared pixels of each pair, at least 1.
    """

    truth: np.ndarray
    predicted: np.ndarray
    truth_ids: np.ndarray
    truth_areas: np.ndarray
    predicted_ids: np.ndarray
    predicted_areas: np.ndarray
    truth_index: np.ndarray
    predicted_index: np.ndarray
    intersections: np.ndarray

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union, float64 `[K]` in 0..1, of the pairs that share pixels."""
        union = self.truth_areas[self.truth_index] + self.predicted_areas[self.predicted_index]
        return self.intersections / (union - self.intersections)

    @property
    def best_iou(self) -> np.ndarray:
        """Largest IoU of each true instance with any prediction, float64 `[T]`; 0 where none overlaps it."""
        best = np.zeros(len(self.truth_ids))
        np.maximum.at(best, self.truth_index, self.iou)
        return best

    def without_pixels(self) -> Overlaps:
        """Returns the same overlaps without the label images, of which many are then held in little memory."""
        return replace(self, truth=_NO_PIXELS, predicted=_NO_PIXELS)

    @property
    def partner_of_truth(self) -> np.ndarray:
        """Index of the prediction that shares most pixels with each true instance, int64 `[T]`; -1 without any.

        Ties go to the lowest label.
        """
        return _partners(self.truth_index, self.predicted_index, self.intersections, len(self.truth_ids))

    @property
    def partner_of_predicted(self) -> np.ndarray:
        """Index of the true instance that shares most pixels with each prediction, int64 `[P]`; -1 without any.

        Ties go to the lowest label.
        """
        return _partners(self.predicted_index, self.truth_index, self.intersections, len(self.predicted_ids))


def overlaps(truth: np.ndarray, predicted: np.ndarray) -> Overlaps:
    """Computes the overlaps of all pairs of instances, once for all scores.

    Examples:
        >>> pair = overlaps(np.array([[1, 1, 0, 2]]), np.array([[5, 5, 5, 0]]))
        >>> pair.truth_ids, pair.predicted_ids, pair.intersections
        (array([1, 2]), array([5]), array([2]))
        >>> pair.best_iou.round(2)
        array([0.67, 0.  ])

    Args:
        truth: Integer `[H, W]`, label image of the ground truth, of any integer type and with labels of any size.
        predicted: Integer `[H, W]`, label image of the prediction, of any integer type.

    Returns:
        The `Overlaps`.

    Raises:
        ValueError: The shapes differ, or an argument is no label image: it is not of integers, not `[H, W]`, or has
            negative labels.
    """
    truth, predicted = _checked(truth, "truth"), _checked(predicted, "predicted")
    if truth.shape != predicted.shape:
        raise ValueError(
            f"Label images must have one shape. Received: truth {truth.shape}, predicted {predicted.shape}"
        )
    if _rows(truth) * _rows(predicted) <= _HIGHEST:
        return _count(truth, predicted)
    # Pairs of such labels cannot be numbered in int64; pairs of their indices can.
    (truth_ids, truth_indices), (predicted_ids, predicted_indices) = map(instance_indices, (truth, predicted))
    found = _count(truth_indices + 1, predicted_indices + 1)
    return replace(found, truth=truth, predicted=predicted, truth_ids=truth_ids, predicted_ids=predicted_ids)


def instance_indices(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers the instances of a label image consecutively.

    Args:
        labels: Integer `[H, W]`, label image of any integer type, without negative labels.

    Returns:
        ids: int64 `[N]`, the labels that occur, ascending; uint64 where int64 cannot hold them.
        indices: int32 `[H, W]`, index into ids of each pixel; -1 for background.
    """
    rows = _rows(labels)
    if rows > _DENSE_BINS:
        ids, inverse = np.unique(labels, return_inverse=True)
        background = int(ids[0] == 0)
        ids = ids[background:].astype(np.int64 if rows - 1 <= _HIGHEST else np.uint64)
        return ids, (inverse.reshape(labels.shape) - background).astype(np.int32)
    # bincount does not accept uint64.
    ids = np.flatnonzero(np.bincount(labels.ravel().astype(np.intp, copy=False), minlength=1)[1:]) + 1
    table = np.full(rows, -1, np.int32)
    table[ids] = np.arange(len(ids))
    return ids, table[labels]


def _rows(labels: np.ndarray) -> int:
    """Returns the number of rows of a histogram over all labels, as a Python integer that cannot overflow."""
    return int(labels.max(initial=0)) + 1


def _count(truth: np.ndarray, predicted: np.ndarray) -> Overlaps:
    """Computes the overlaps of label images whose pairs of labels can be numbered in int64."""
    columns = _rows(predicted)
    bins = _rows(truth) * columns
    pairs = truth.ravel().astype(np.int64)
    pairs *= columns
    # NumPy would add int64 and uint64 in float64.
    np.add(pairs, predicted.ravel(), out=pairs, dtype=np.int64, casting="unsafe")
    if bins <= _DENSE_BINS:
        histogram = np.bincount(pairs, minlength=bins)
        keys = np.flatnonzero(histogram)
        counts = histogram[keys]
    else:
        keys, counts = np.unique(pairs, return_counts=True)
    truth_labels, predicted_labels = np.divmod(keys, columns)
    truth_ids, truth_areas = _areas(truth_labels, counts)
    predicted_ids, predicted_areas = _areas(predicted_labels, counts)
    both = (truth_labels > 0) & (predicted_labels > 0)
    return Overlaps(
        truth=truth,
        predicted=predicted,
        truth_ids=truth_ids,
        truth_areas=truth_areas,
        predicted_ids=predicted_ids,
        predicted_areas=predicted_areas,
        truth_index=np.searchsorted(truth_ids, truth_labels[both]),
        predicted_index=np.searchsorted(predicted_ids, predicted_labels[both]),
        intersections=counts[both],
    )


def _checked(labels: np.ndarray, name: str) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{name} must be an integer label image [H, W]. Received: shape {labels.shape}, {labels.dtype}"
        )
    if labels.min(initial=0) < 0:
        raise ValueError(f"{name} has negative labels. Received: {labels.min()}")
    return labels


def _areas(labels: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the foreground labels, ascending, and their areas in pixels, from the histogram's entries."""
    ids, inverse = np.unique(labels, return_inverse=True)
    areas = np.bincount(inverse, weights=counts, minlength=len(ids)).astype(np.int64)
    foreground = ids > 0
    return ids[foreground], areas[foreground]


def _partners(index: np.ndarray, other: np.ndarray, shared: np.ndarray, count: int) -> np.ndarray:
    """Returns, for each of `count` instances, the entry of `other` with which it shares most pixels, or -1."""
    order = np.lexsort((other, -shared, index))
    instances, first = np.unique(index[order], return_index=True)
    partners = np.full(count, -1, np.int64)
    partners[instances] = other[order][first]
    return partners
