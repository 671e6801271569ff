"""Scores of a segmentation against its ground truth: everything that `nucleus.evaluation.scores` computes, in one place.

    pair = overlaps(truth, predicted)      # two label images [H, W], once
    count_matches(pair, 0.7).f1            # and every score from that
    sum(count_pixels(pair) for pair in pairs).dice
    sum(score(pair) for pair in pairs).values()    # all of them, by name
    scores_by_group((modality, score(pair)) for modality, pair in images)["all"]    # by modality

`overlaps` counts the pixels that instances share. Every score takes its result; what an image adds to a score is a
small object with the scores as properties, and such objects add up to those of a data set. For the common scores of
one image `iou_matrix`, `average_precision` and `pixel_iou` take the two label images themselves.
"""

from __future__ import annotations

import numpy as np

from nucleus.evaluation.scores.glas import Glas, glas_scores
from nucleus.evaluation.scores.matching import (
    DETECTION_IOU,
    THRESHOLDS,
    Matches,
    average_precision_curve,
    count_matches,
)
from nucleus.evaluation.scores.numbers import Divisions, Numbers, count_divisions, count_nuclei
from nucleus.evaluation.scores.overlaps import Overlaps, overlaps
from nucleus.evaluation.scores.panoptic import Panoptic, panoptic_quality
from nucleus.evaluation.scores.pixels import Pixels, count_pixels
from nucleus.evaluation.scores.ranked import CocoScores, coco_scores, score_average_precision
from nucleus.evaluation.scores.ranking import rank_sum_table
from nucleus.evaluation.scores.sensitivity import PROPERTIES, iou_histogram, nucleus_table, recall_by
from nucleus.evaluation.scores.summary import Scores, score, scores_by_group

__all__ = [
    "DETECTION_IOU",
    "PROPERTIES",
    "THRESHOLDS",
    "CocoScores",
    "Divisions",
    "Glas",
    "Matches",
    "Numbers",
    "Overlaps",
    "Panoptic",
    "Pixels",
    "Scores",
    "average_precision",
    "average_precision_curve",
    "coco_scores",
    "count_divisions",
    "count_matches",
    "count_nuclei",
    "count_pixels",
    "glas_scores",
    "iou_histogram",
    "iou_matrix",
    "nucleus_table",
    "overlaps",
    "panoptic_quality",
    "pixel_iou",
    "rank_sum_table",
    "recall_by",
    "score",
    "score_average_precision",
    "scores_by_group",
]


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
    return float(count_matches(overlaps(truth, predicted)).average_precision.mean())


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
    return count_pixels(overlaps(truth, predicted)).iou
