"""Panoptic quality of one class: Kirillov et al., Panoptic segmentation, 2019, section 4.2."""

from __future__ import annotations

from dataclasses import dataclass

from nucleus.evaluation.scores.overlaps import Overlaps
from nucleus.evaluation.scores.sums import Sums, quotient


@dataclass(frozen=True)
class Panoptic(Sums):
    """Contributions of one image or, added up, of many to the panoptic quality; matches are above an IoU of 0.5.

    All three scores are 1 where neither ground truth nor prediction has instances, and 0 where nothing matches.

    Attributes:
        iou: Sum of the IoU of the matched pairs.
        matched: Number of matched pairs.
        true: Number of instances of the ground truth.
        predicted: Number of instances of the prediction.
    """

    iou: float
    matched: int
    true: int
    predicted: int

    @property
    def segmentation_quality(self) -> float:
        """Mean IoU of the matched pairs, 0..1."""
        return quotient(self.iou, self.matched, float(self.true + self.predicted == 0))

    @property
    def recognition_quality(self) -> float:
        """TP / (TP + FP / 2 + FN / 2), 0..1: the F1 score of detection."""
        return quotient(2 * self.matched, self.true + self.predicted, 1.0)

    @property
    def quality(self) -> float:
        """Panoptic quality, 0..1: segmentation quality times recognition quality."""
        return self.segmentation_quality * self.recognition_quality


def panoptic_quality(pair: Overlaps) -> Panoptic:
    """Computes an image's contributions to the panoptic quality.

    Examples:
        >>> import numpy as np
        >>> from nucleus.evaluation.scores.overlaps import overlaps
        >>> truth = np.array([[1, 1, 1, 1, 0, 2]])
        >>> predicted = np.array([[1, 1, 1, 0, 0, 2]])
        >>> panoptic_quality(overlaps(truth, predicted)).quality
        0.875

    Args:
        pair: Overlaps of ground truth and prediction.

    Returns:
        The `Panoptic` of this image.
    """
    iou = pair.iou[pair.iou > 0.5]
    return Panoptic(iou=float(iou.sum()), matched=len(iou), true=len(pair.truth_ids), predicted=len(pair.predicted_ids))
