"""Scores of a segmentation against its ground truth, one concept per module; all of them can be imported from here.

    pair = overlaps(truth, predicted)      # two label images [H, W], once
    count_matches(pair, 0.7).f1            # and every score from that
    sum(count_pixels(pair) for pair in pairs).dice
    sum(score(pair) for pair in pairs).values()    # all of them, by name
    scores_by_group((modality, score(pair)) for modality, pair in images)["all"]    # by modality

`overlaps` counts the pixels that instances share, and every score is computed from its result. The contributions of an
image to a score are a small object with the scores as properties; the sum of such objects has the scores of a data set.
`iou_matrix`, `average_precision` and `pixel_iou` take the two label images themselves.
"""

from __future__ import annotations

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
from nucleus.evaluation.scores.shortcuts import average_precision, iou_matrix, pixel_iou
from nucleus.evaluation.scores.summary import MainScores, Scores, main_scores, score, scores_by_group

__all__ = [
    "DETECTION_IOU",
    "PROPERTIES",
    "THRESHOLDS",
    "CocoScores",
    "Divisions",
    "Glas",
    "MainScores",
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
    "main_scores",
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
