"""Common scores of one image, computed from two label images."""

from __future__ import annotations

import numpy as np

from nucleus.evaluation.scores.matching import count_matches
from nucleus.evaluation.scores.overlaps import overlaps
from nucleus.evaluation.scores.pixels import count_pixels


def iou_matrix(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Computes the intersection over union of every pair of instances.

    Examples:
        >>> iou_matrix(np.array([[1, 1, 0, 2]]), np.array([[3, 3, 0, 0]]))
        array([[1.],
               [0.]])

    Args:
        truth: Integer `[H, W]`, label image of the ground truth.
        predicted: Integer `[H, W]`, label image of the prediction.

    Returns:
        float64 `[T, P]` in 0..1; rows and columns in the order of ascending labels.

    Raises:
        ValueError: The shapes differ, or an argument is no label image.
    """
    found = overlaps(truth, predicted)
    matrix = np.zeros((len(found.truth_ids), len(found.predicted_ids)))
    matrix[found.truth_index, found.predicted_index] = found.iou
    return matrix


def average_precision(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Computes the score of one image by the rules of the 2018 Data Science Bowl.

    The score is the mean of TP / (TP + FP + FN) over the IoU thresholds 0.5, 0.55, ..., 0.95; 1 if neither label image
    has an instance, and 0 if only one of them has. The mAP of a data set is the mean over its images
    (https://www.kaggle.com/c/data-science-bowl-2018/overview/evaluation).

    Examples:
        >>> truth = np.array([[1, 1, 1, 0, 2]])
        >>> average_precision(truth, truth)
        1.0
        >>> average_precision(truth, np.array([[1, 1, 1, 0, 0]]))
        0.5

    Args:
        truth: Integer `[H, W]`, label image of the ground truth.
        predicted: Integer `[H, W]`, label image of the prediction.

    Returns:
        The score in 0..1.

    Raises:
        ValueError: The shapes differ, or an argument is no label image.
    """
    return float(count_matches(overlaps(truth, predicted)).average_precision.mean())


def pixel_iou(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Computes the intersection over union of the foregrounds, the pixels of all nuclei together.

    Args:
        truth: Integer `[H, W]`, label image of the ground truth.
        predicted: Integer `[H, W]`, label image of the prediction.

    Returns:
        The score in 0..1; 1 where neither label image has a foreground.

    Raises:
        ValueError: The shapes differ, or an argument is no label image.
    """
    return count_pixels(overlaps(truth, predicted)).iou
