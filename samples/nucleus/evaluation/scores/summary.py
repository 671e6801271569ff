"""All scores of an image or a data set together."""

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
    """Contributions of one image or, added up, of many to all scores except those of the GlaS challenge.

    Attributes:
        average_precisions: float64 `[10]`, sum over images of TP / (TP + FP + FN) at each of THRESHOLDS.
        dices: Sum over images of the foreground's Dice coefficient.
        ious: Sum over images of the foreground's intersection over union.
        found: Matches at the IoU of detection.
        pixels: Foreground pixels.
        divisions: Over- and under-segmentations, at the IoU of detection.
        numbers: Numbers of nuclei, and of images.
        panoptic: Contributions to the panoptic quality.
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
        """Returns every score by name.

        `mAP`, `AP50` ... `AP95`, `Dice`, `IoU`, `count_error` and `count_ratio` are means over images; `oseg`, `useg`,
        `true`, `predicted`, `matched`, `missed` and `spurious` are totals; the others are scores of the pooled nuclei.

        Returns:
            The scores images, mAP, AP50, AP55, ... AP95, precision, recall, F1, Dice, IoU, oseg, useg, true, predicted,
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
    """Contributions of one image or, added up, of many to all scores.

    Attributes:
        glas: Contributions to the GlaS challenge's scores, whose Hausdorff distances take most of the time.
    """

    glas: Glas

    def values(self) -> dict[str, float]:
        """Returns every score by name.

        Returns:
            The scores of `MainScores.values`, object_F1, object_Dice and object_Hausdorff (pixels).
        """
        return {
            **super().values(),
            "object_F1": self.glas.f1,
            "object_Dice": self.glas.dice,
            "object_Hausdorff": self.glas.hausdorff,
        }


def main_scores(pair: Overlaps, threshold: float = DETECTION_IOU) -> MainScores:
    """Computes an image's contributions to every score except those of the GlaS challenge, in milliseconds.

    Args:
        pair: Overlaps of ground truth and prediction.
        threshold: IoU above which a nucleus counts as found, 0.5..1; see `score`.

    Returns:
        The `MainScores` of this image; `sum` adds those of several.

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
    """Computes an image's contributions to every score.

    Examples:
        >>> from nucleus.evaluation.scores.overlaps import overlaps
        >>> truth = np.array([[1, 1, 0, 2, 2, 2]])
        >>> predicted = np.array([[1, 1, 0, 0, 2, 2]])
        >>> values = score(overlaps(truth, predicted)).values()
        >>> values["AP50"], values["true"], round(values["recall"], 2)
        (1.0, 2, 0.5)

    Args:
        pair: Overlaps of ground truth and prediction.
        threshold: IoU above which a nucleus counts as found, 0.5..1, for precision, recall, F1, over- and
            under-segmentation. Only scores at the same threshold can be added.

    Returns:
        The `Scores` of this image; `sum` adds those of several.

    Raises:
        ValueError: The threshold is not in 0.5..1.
    """
    return Scores(**vars(main_scores(pair, threshold)), glas=glas_scores(pair))


def scores_by_group(images: Iterable[tuple[str, Scores]]) -> dict[str, Scores]:
    """Adds up the scores of all images of a data set, and of each group of images.

    Args:
        images: (group, such as the modality, and scores) of each image.

    Returns:
        The scores of all images as "all", then those of each group in alphabetical order if there are several.

    Raises:
        ValueError: There is no image, or a group is called "all".
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
