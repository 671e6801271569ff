"""Cross-validation of a fitted ensemble: every image by an ensemble that was fitted to the other folds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nucleus.ensemble.examples import Example
from nucleus.ensemble.fitted import Combination
from nucleus.ensemble.fitting import Fitted
from nucleus.ensemble.report import FitReport, report
from nucleus.evaluation.scores import average_precision
from nucleus.models.base import History


@dataclass(frozen=True)
class CrossValidation:
    """Images that an ensemble was fitted to, and what is chosen in each without having seen its fold.

    Attributes:
        examples: The images with their members' nuclei.
        fitted: The fitted ensemble, with its predictions out of fold.
    """

    examples: Sequence[Example]
    fitted: Fitted

    def combine(self, image_id: str) -> Combination:
        """Returns the nuclei of an image, chosen by an ensemble that was fitted to the other folds.

        Args:
            image_id: Name of the image in its data set.

        Raises:
            ValueError: The ensemble was not fitted to this image.
        """
        if image_id not in self._numbers:
            raise ValueError(f"{image_id}: is not among the images that the ensemble was fitted to")
        return self._combine(self._numbers[image_id])

    @cached_property
    def report(self) -> FitReport:
        """Tables of the ensemble's scores beside those of its members."""
        return report(self.examples, self.fitted)

    def history(self) -> History:
        """Returns the number of images, the threshold and the mAP of every fold."""
        logs: dict[str, list[float]] = {"images": [], "threshold": [], "mAP": []}
        for fold in range(max(self.fitted.folds) + 1):
            numbers = [number for number, other in enumerate(self.fitted.folds) if other == fold]
            scores = [average_precision(self.examples[each].truth, self._combine(each).labels) for each in numbers]
            logs["images"].append(len(numbers))
            logs["threshold"].append(self.fitted.rules[numbers[0]].threshold)
            logs["mAP"].append(float(np.mean(scores)))
        return History("fold", logs)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {example.id: number for number, example in enumerate(self.examples)}

    def _combine(self, number: int) -> Combination:
        fitted = self.fitted
        return fitted.rules[number].combine(self.examples[number].candidates, fitted.quality[number])
