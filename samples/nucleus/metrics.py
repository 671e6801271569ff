"""Scores of a segmentation against its ground truth, computed from two label images.

Both label images are disjoint, so the overlaps of all pairs are one histogram over the pixels: O(H W) time, and
memory for the pairs that touch only. Labels need not be consecutive; 0 is background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# IoU thresholds of the 2018 Data Science Bowl, n / 100 correctly rounded.
THRESHOLDS = np.arange(50, 100, 5) / 100
# Bins up to which a dense histogram of label pairs is faster than sorting the pixels (32 MB of counts).
_DENSE_BINS = 1 << 22


@dataclass(frozen=True)
class Overlaps:
    """Sizes and overlaps of the instances of two label images.

    Attributes:
        truth_ids: int64 `[T]`, labels of the ground truth, ascending.
        truth_areas: int64 `[T]`, pixels of each.
        predicted_ids: int64 `[P]`, labels of the prediction, ascending.
        predicted_areas: int64 `[P]`, pixels of each.
        truth_index: int64 `[K]`, index into truth_ids of each pair that shares pixels.
        predicted_index: int64 `[K]`, index into predicted_ids of each such pair.
        intersections: int64 `[K]`, pixels that each such pair shares; at least 1.
    """

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


@dataclass(frozen=True)
class Counts:
    """Matched and unmatched instances of one image or of many, at one or more IoU thresholds.

    Attributes:
        true_positives: int64 `[K]`, matched pairs at each threshold.
        false_positives: int64 `[K]`, predicted instances without a match.
        false_negatives: int64 `[K]`, true instances without a match.
    """

    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray

    @property
    def precision(self) -> np.ndarray:
        """TP / (TP + FP + FN), float64 `[K]`; 1 where there is nothing to find and nothing was found."""
        total = self.true_positives + self.false_positives + self.false_negatives
        return np.where(total > 0, self.true_positives / np.maximum(total, 1), 1.0)


def overlaps(truth: np.ndarray, predicted: np.ndarray) -> Overlaps:
    """Measures the overlaps of every pair of instances.

    Args:
        truth: Integer `[H, W]` label image.
        predicted: Integer `[H, W]` label image.

    Returns:
        The `Overlaps`.

    Raises:
        ValueError: The shapes differ, or an argument is no label image.
    """
    truth, predicted = _checked(truth, "truth"), _checked(predicted, "predicted")
    if truth.shape != predicted.shape:
        raise ValueError(
            f"Label images must have one shape. Received: truth {truth.shape}, predicted {predicted.shape}"
        )
    columns = int(predicted.max(initial=0)) + 1
    bins = (int(truth.max(initial=0)) + 1) * columns
    pairs = truth.ravel().astype(np.int64)
    pairs *= columns
    pairs += predicted.ravel()
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
        truth_ids=truth_ids,
        truth_areas=truth_areas,
        predicted_ids=predicted_ids,
        predicted_areas=predicted_areas,
        truth_index=np.searchsorted(truth_ids, truth_labels[both]),
        predicted_index=np.searchsorted(predicted_ids, predicted_labels[both]),
        intersections=counts[both],
    )


def iou_matrix(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair of instances.

    Args:
        truth: Integer `[H, W]` label image.
        predicted: Integer `[H, W]` label image.

    Returns:
        float64 `[T, P]` in 0..1; rows and columns in the order of ascending labels.

    Raises:
        ValueError: The shapes differ, or an argument is no label image.
    """
    found = overlaps(truth, predicted)
    matrix = np.zeros((len(found.truth_ids), len(found.predicted_ids)))
    matrix[found.truth_index, found.predicted_index] = found.iou
    return matrix


def match_counts(
    truth: np.ndarray, predicted: np.ndarray, thresholds: Sequence[float] | np.ndarray = THRESHOLDS
) -> Counts:
    """Counts matched and unmatched instances at each IoU threshold.

    A pair matches where its IoU is strictly greater than the threshold, as the 2018 Data Science Bowl defines
    it. From 0.5 on an instance of a disjoint label image has one match at most, so no assignment is needed.

    Args:
        truth: Integer `[H, W]` label image.
        predicted: Integer `[H, W]` label image.
        thresholds: `[K]` in 0.5..1.

    Returns:
        The `Counts` of this image.

    Raises:
        ValueError: The shapes differ, an argument is no label image, or a threshold is below 0.5.
    """
    thresholds = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if (thresholds < 0.5).any():
        raise ValueError(f"Below an IoU of 0.5 matches are not unique. Received: thresholds={thresholds}")
    found = overlaps(truth, predicted)
    matched = (found.iou[:, None] > thresholds).sum(axis=0)
    return Counts(
        true_positives=matched,
        false_positives=len(found.predicted_ids) - matched,
        false_negatives=len(found.truth_ids) - matched,
    )


def average_precision(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The 2018 Data Science Bowl's score of one image.

    It is the mean of TP / (TP + FP + FN) over the IoU thresholds 0.5, 0.55, ..., 0.95. It is 1 where neither
    label image has an instance and 0 where one of the two has none. A dataset's mAP is the mean over its images
    (https://www.kaggle.com/c/data-science-bowl-2018/overview/evaluation).

    Args:
        truth: Integer `[H, W]` label image.
        predicted: Integer `[H, W]` label image.

    Returns:
        The score in 0..1.

    Raises:
        ValueError: The shapes differ, or an argument is no label image.
    """
    return float(match_counts(truth, predicted).precision.mean())


def pixel_iou(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Intersection over union of the foregrounds: pixels of any nucleus, however it is divided from its neighbours.

    Args:
        truth: Integer `[H, W]` label image.
        predicted: Integer `[H, W]` label image.

    Returns:
        The score in 0..1; 1 where neither label image has a foreground.

    Raises:
        ValueError: The shapes differ, or an argument is no label image.
    """
    found = overlaps(truth, predicted)
    shared = int(found.intersections.sum())
    union = int(found.truth_areas.sum() + found.predicted_areas.sum()) - shared
    return shared / union if union else 1.0


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
    """Returns the foreground labels, ascending, and the pixels of each, from the histogram's entries."""
    ids, inverse = np.unique(labels, return_inverse=True)
    areas = np.bincount(inverse, weights=counts, minlength=len(ids)).astype(np.int64)
    foreground = ids > 0
    return ids[foreground], areas[foreground]
