"""Every score of an image, or of a data set, at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nucleus.evaluation.scores.glas import Glas, glas_scores
from nucleus.evaluation.scores.matching import DETECTION_IOU, THRESHOLDS, Matches, count_matches
from nucleus.evaluation.scores.numbers import Divisions, Numbers, count_divisions, count_nuclei
from nucleus.evaluation.scores.overlaps import Overlaps
from nucleus.evaluation.scores.panoptic import Panoptic, panoptic_quality
from nucleus.evaluation.scores.pixels import Pixels, count_pixels
from nucleus.evaluation.scores.sums import Sums


@dataclass(frozen=True)
class MainScores(Sums):
    """Sums of one image or, added up, of many, from which every score follows but those of the GlaS challenge.

    Attributes:
        average_precisions: float64 `[10]`, sum over images of TP / (TP + FP + FN) at each of THRESHOLDS.
        dices: Sum over images of the foreground's Dice coefficient.
        ious: Sum over images of the foreground's intersection over union.
        found: Matches at the IoU of detection.
        pixels: Foreground pixels.
        divisions: Over- and under-segmentations, at the IoU of detection.
        numbers: Numbers of nuclei, and of images.
        panoptic: Parts of the panoptic quality.
    """

    average_precisions: np.ndarray
    dices: float
    ious: float
    found: Matches
    pixels: Pixels
    divisions: Divisions
    numbers: Numbers
    panoptic: Panoptic

    def values(self) -> dict[str, float]:
        """Names every score.

        `mAP`, `AP50` ... `AP95`, `Dice`, `IoU`, `count_error` and `count_ratio` are means over images; `oseg`, `useg`,
        `true`, `predicted`, `matched`, `missed` and `spurious` are numbers in all of them; the others are the scores
        of all nuclei together.

        Returns:
            By name: images, mAP, AP50, AP55, ... AP95, precision, recall, F1, Dice, IoU, oseg, useg, true, predicted,
            matched, missed, spurious (the last three at an IoU of 0.5), count_error, count_ratio, PQ, SQ and RQ.
        """
        images, matched = self.numbers.images, self.panoptic.matched
        curve = self.average_precisions / images
        return {
            "images": images,
            "mAP": float(curve.mean()),
            **{f"AP{100 * threshold:.0f}": float(value) for threshold, value in zip(THRESHOLDS, curve, strict=True)},
            "precision": float(self.found.precision[0]),
            "recall": float(self.found.recall[0]),
            "F1": float(self.found.f1[0]),
            "Dice": self.dices / images,
            "IoU": self.ious / images,
            "oseg": self.divisions.over,
            "useg": self.divisions.under,
            "true": self.numbers.true,
            "predicted": self.numbers.predicted,
            "matched": matched,
            "missed": self.numbers.true - matched,
            "spurious": self.numbers.predicted - matched,
            "count_error": self.numbers.error,
            "count_ratio": self.numbers.ratio,
            "PQ": self.panoptic.quality,
            "SQ": self.panoptic.segmentation_quality,
            "RQ": self.panoptic.recognition_quality,
        }


@dataclass(frozen=True)
class Scores(MainScores):
    """Sums of one image or, added up, of many, from which every score follows.

    Attributes:
        glas: Parts of the GlaS challenge's scores, whose Hausdorff distances take most of the time.
    """

    glas: Glas

    def values(self) -> dict[str, float]:
        """Names every score.

        Returns:
            By name: those of `MainScores.values`, object_F1, object_Dice and object_Hausdorff (pixels).
        """
        return {
            **super().values(),
            "object_F1": self.glas.f1,
            "object_Dice": self.glas.dice,
            "object_Hausdorff": self.glas.hausdorff,
        }


def main_scores(pair: Overlaps, threshold: float = DETECTION_IOU) -> MainScores:
    """Measures what an image adds to every score but those of the GlaS challenge, in milliseconds.

    Args:
        pair: Overlaps of ground truth and prediction.
        threshold: IoU above which a nucleus counts as found, 0.5..1; see `score`.

    Raises:
        ValueError: The threshold is not in 0.5..1.
    """
    pixels = count_pixels(pair)
    return MainScores(
        average_precisions=count_matches(pair).average_precision,
        dices=pixels.dice,
        ious=pixels.iou,
        found=count_matches(pair, threshold),
        pixels=pixels,
        divisions=count_divisions(pair, threshold),
        numbers=count_nuclei(pair),
        panoptic=panoptic_quality(pair),
    )


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
    return Scores(**vars(main_scores(pair, threshold)), glas=glas_scores(pair))


def scores_by_group(images: Iterable[tuple[str, Scores]]) -> dict[str, Scores]:
    """Adds up the images of a data set, and those of each of its groups.

    Args:
        images: Group of each image, such as its modality, and its scores.

    Returns:
        Under "all" the scores of all images; then, where there are several groups, those of each in the order of
        their names. (A data set whose only group is called otherwise has "all" alone.)

    Raises:
        ValueError: There is no image, or a group is itself called "all".
    """
    groups: dict[str, list[Scores]] = {}
    for name, scores in images:
        groups.setdefault(name, []).append(scores)
    if not groups:
        raise ValueError("There is no image to score.")
    if "all" in groups:
        raise ValueError("A group is called 'all', as the scores of all images are. Give it another name.")
    everything = {"all": sum(scores for group in groups.values() for scores in group)}
    return everything | ({name: sum(groups[name]) for name in sorted(groups)} if len(groups) > 1 else {})
