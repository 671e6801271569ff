"""Counting errors, over-segmentation and under-segmentation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nucleus.evaluation.scores.matching import DETECTION_IOU, require_unique
from nucleus.evaluation.scores.overlaps import Overlaps
from nucleus.evaluation.scores.sums import Sums


@dataclass(frozen=True)
class Numbers(Sums):
    """Numbers of nuclei in one image or, added up, in many.

    Attributes:
        images: Number of images.
        true: Number of nuclei of the ground truth.
        predicted: Number of nuclei of the prediction.
        misses: Sum over images of |predicted - true|.
        ratios: Sum over images of the smaller number divided by the larger one; 1 where both are 0.
    """

    images: int
    true: int
    predicted: int
    misses: int
    ratios: float

    @property
    def error(self) -> float:
        """Mean over images of |predicted - true|, in nuclei."""
        return self.misses / self.images

    @property
    def ratio(self) -> float:
        """Mean over images of min(true / predicted, predicted / true), 0..1.

        The count metric of Lehmann, Agarwal and Lund, "Semantic segmentation of cells from clinical images using deep
        learning", 2020, section 8.0.2. There an image without true nuclei counts as 0 even if none is predicted.
        """
        return self.ratios / self.images


@dataclass(frozen=True)
class Divisions(Sums):
    """Over- and under-segmentations in one image or, added up, in many.

    Attributes:
        over: Number of true nuclei that are split into several predictions.
        under: Number of predictions that merge several true nuclei.
    """

    over: int
    under: int


def count_nuclei(pair: Overlaps) -> Numbers:
    """Compares the number of predicted nuclei with the true one.

    Args:
        pair: Overlaps of ground truth and prediction.

    Returns:
        The `Numbers` of this image.
    """
    true, predicted = len(pair.truth_ids), len(pair.predicted_ids)
    most = max(true, predicted)
    ratio = min(true, predicted) / most if most else 1.0
    return Numbers(images=1, true=true, predicted=predicted, misses=abs(predicted - true), ratios=ratio)


def count_divisions(pair: Overlaps, threshold: float = DETECTION_IOU) -> Divisions:
    """Counts over- and under-segmentations at an IoU threshold.

    "Nuclei segmentation using computer vision", Vuola, 2019, section 4.4.4 and figure 4.8: over-segmentation is a
    single nucleus in several smaller pieces, under-segmentation several nuclei detected as one. The thesis counts
    both "at IoU of 0.7" and does not define the pieces. Here a piece belongs to the instance that has more than half of
    its pixels, so to one at most.

    A prediction with two or more true nuclei in it is an under-segmentation, also where one of them is so large that
    the prediction matches it: the others are detected as one with it. A nucleus with two or more predictions in it is
    an over-segmentation unless one of them matches it at the threshold: then it is not in smaller pieces but found, and
    the others are false positives.

    Args:
        pair: Overlaps of ground truth and prediction.
        threshold: IoU above which a nucleus counts as found and not as over-segmented, 0.5..1.

    Returns:
        The `Divisions` of this image.

    Raises:
        ValueError: The threshold is not in 0.5..1.
    """
    require_unique(threshold)
    matched = pair.iou > threshold
    pieces = 2 * pair.intersections > pair.predicted_areas[pair.predicted_index]
    parts = 2 * pair.intersections > pair.truth_areas[pair.truth_index]
    return Divisions(
        over=len(np.setdiff1d(_with_several(pair.truth_index, pieces), pair.truth_index[matched])),
        under=len(_with_several(pair.predicted_index, parts)),
    )


def _with_several(index: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Finds the instances with two or more pieces."""
    return np.flatnonzero(np.bincount(index[inside]) >= 2)
