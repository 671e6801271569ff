"""Scores of the foreground, the pixels of all nuclei together."""

from __future__ import annotations

from dataclasses import dataclass

from nucleus.evaluation.scores.overlaps import Overlaps
from nucleus.evaluation.scores.sums import Sums, quotient


@dataclass(frozen=True)
class Pixels(Sums):
    """Foreground pixels of one image or, added up, of many.

    Both scores are 1 where neither ground truth nor prediction has a foreground, and 0 where only one of them has.

    Attributes:
        shared: Number of pixels in both foregrounds.
        true: Number of foreground pixels of the ground truth.
        predicted: Number of foreground pixels of the prediction.
    """

    shared: int
    true: int
    predicted: int

    @property
    def iou(self) -> float:
        """Intersection over union, 0..1."""
        return quotient(self.shared, self.true + self.predicted - self.shared, 1.0)

    @property
    def dice(self) -> float:
        """Dice coefficient, 0..1: Vuola, 2019, equation 4.3."""
        return quotient(2 * self.shared, self.true + self.predicted, 1.0)


def count_pixels(pair: Overlaps) -> Pixels:
    """Counts the pixels of the two foregrounds and of their intersection.

    Args:
        pair: Overlaps of ground truth and prediction.

    Returns:
        The `Pixels` of this image.
    """
    return Pixels(
        shared=int(pair.intersections.sum()),
        true=int(pair.truth_areas.sum()),
        predicted=int(pair.predicted_areas.sum()),
    )
