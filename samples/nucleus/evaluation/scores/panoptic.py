"""Panoptic quality of one class: Kirillov et al., Panoptic segmentation, 2019, section 4.2."""

from __future__ import annotations

from dataclasses import dataclass

from nucleus.evaluation.scores.overlaps import Overlaps
from nucleus.evaluation.scores.sums import Sums, quotient


@dataclass(frozen=True)
class Panoptic(Sums):
    """What one image or, added up, many add to the panoptic quality; instances match above an IoU of 0.5.

    All three scores are 1 where there is nothing to find and nothing was found, and 0 where nothing matches.

    Attributes:
        iou: Sum of the IoU of the matched pairs.
        matched: Matched pairs.
        true: Instances of the ground truth.
        predicted: Instances of the prediction.
    """

    iou: float
    matched: int
    true: int
    predicted: int

    @property
    def segmentation_quality(self) -> float:
        """Mean IoU of the matched pairs, 0..1."""
        return quotient(self.iou, self.matched, self._undefined)

    @property
    def recognition_quality(self) -> float:
        """TP / (TP + FP / 2 + FN / 2), 0..1: the F1 score of detection."""
        return quotient(2 * self.matched, self.true + self.predicted, 1.0)

    @property
    def quality(self) -> float:
        """Panoptic quality, 0..1: the product of the two."""
        return self.segmentation_quality * self.recognition_quality

    @property
    def _undefined(self) -> float:
        return float(self.true + self.predicted == 0)


def panoptic_quality(pair: Overlaps) -> Panoptic:
    """Measures what an image adds to the panoptic quality.

    Args:
        pair: Overlaps of ground truth and prediction.

    Returns:
        The `Panoptic` of this image.
    """
    iou = pair.iou[pair.iou > 0.5]
    return Panoptic(iou=float(iou.sum()), matched=len(iou), true=len(pair.truth_ids), predicted=len(pair.predicted_ids))
