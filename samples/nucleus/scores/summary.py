"""Every score of an image, or of a data set, at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nucleus.scores.glas import Glas, glas_scores
from nucleus.scores.matching import DETECTION_IOU, THRESHOLDS, Matches, count_matches
from nucleus.scores.numbers import Divisions, Numbers, count_divisions, count_nuclei
from nucleus.scores.overlaps import Overlaps
from nucleus.scores.panoptic import Panoptic, panoptic_quality
from nucleus.scores.pixels import Pixels, count_pixels
from nucleus.scores.sums import Sums


@dataclass(frozen=True)
class Scores(Sums):
    """All that one image or, added up, many add to the scores.

    Attributes:
        average_precisions: float64 `[10]`, sum over images of TP / (TP + FP + FN) at each of THRESHOLDS.
        found: Matches at the IoU of detection.
        pixels: Foreground pixels.
        divisions: Over- and under-segmentations, at the IoU of detection.
        numbers: Numbers of nuclei, and of images.
        panoptic: Parts of the panoptic quality.
        glas: Parts of the GlaS challenge's scores.
    """

    average_precisions: np.ndarray
    found: Matches
    pixels: Pixels
    divisions: Divisions
    numbers: Numbers
    panoptic: Panoptic
    glas: Glas

    def values(self) -> dict[str, float]:
        """Names every score.

        `mAP`, `AP50` ... `AP95`, `count_error` and `count_ratio` are means over images; `oseg`, `useg`, `true` and
        `predicted` are numbers in all of them; the others are the scores of all nuclei or pixels together.

        Returns:
            By name: images, mAP, AP50, AP55, ... AP95, precision, recall, F1, Dice, IoU, oseg, useg, true, predicted,
            count_error, count_ratio, PQ, SQ, RQ, object_F1, object_Dice and object_Hausdorff (pixels).
        """
        curve = self.average_precisions / self.numbers.images
        return {
            "images": self.numbers.images,
            "mAP": float(curve.mean()),
            **{f"AP{100 * threshold:.0f}": float(value) for threshold, value in zip(THRESHOLDS, curve, strict=True)},
            "precision": float(self.found.precision[0]),
            "recall": float(self.found.recall[0]),
            "F1": float(self.found.f1[0]),
            "Dice": self.pixels.dice,
            "IoU": self.pixels.iou,
            "oseg": self.divisions.over,
            "useg": self.divisions.under,
            "true": self.numbers.true,
            "predicted": self.numbers.predicted,
            "count_error": self.numbers.error,
            "count_ratio": self.numbers.ratio,
            "PQ": self.panoptic.quality,
            "SQ": self.panoptic.segmentation_quality,
            "RQ": self.panoptic.recognition_quality,
            "object_F1": self.glas.f1,
            "object_Dice": self.glas.dice,
            "object_Hausdorff": self.glas.hausdorff,
        }


def score(pair: Overlaps, threshold: float = DETECTION_IOU) -> Scores:
    """Measures what an image adds to every score.

    Args:
        pair: Overlaps of ground truth and prediction.
        threshold: IoU above which a nucleus counts as found, 0.5..1, for precision, recall, F1 and the errors of
            division. Scores are to be added at one threshold only.

    Returns:
        The `Scores` of this image; `sum` adds those of several.

    Raises:
        ValueError: The threshold is not in 0.5..1.
    """
    return Scores(
        average_precisions=count_matches(pair).average_precision,
        found=count_matches(pair, threshold),
        pixels=count_pixels(pair),
        divisions=count_divisions(pair, threshold),
        numbers=count_nuclei(pair),
        panoptic=panoptic_quality(pair),
        glas=glas_scores(pair),
    )
