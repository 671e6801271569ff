"""The three scores of the GlaS challenge: Sirinukunwattana et al., Gland segmentation in colon histology images: the
GlaS challenge contest, Medical Image Analysis 35, 2017, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from nucleus.evaluation.scores.hausdorff import Shapes, hausdorff, nearest
from nucleus.evaluation.scores.overlaps import Overlaps
from nucleus.evaluation.scores.sums import Sums, quotient


@dataclass(frozen=True)
class Glas(Sums):
    """Contributions of one image or, added up, of a test part to the three scores.

    The challenge weights each object by its share of the area of all objects in all images of a test part: add up the
    images of a part before reading the scores.

    Attributes:
        detected: Number of predicted objects that are true positives.
        true: Number of objects of the ground truth.
        predicted: Number of objects of the prediction.
        true_area: Pixels of all true objects.
        predicted_area: Pixels of all predicted objects.
        true_dice: Sum over true objects of area times Dice coefficient, in pixels.
        predicted_dice: Sum over predicted objects of area times Dice coefficient, in pixels.
        true_distance: Sum over true objects of area times Hausdorff distance, in cubed pixels.
        predicted_distance: Sum over predicted objects of area times Hausdorff distance, in cubed pixels.
    """

    detected: int
    true: int
    predicted: int
    true_area: int
    predicted_area: int
    true_dice: float
    predicted_dice: float
    true_distance: float
    predicted_distance: float

    @property
    def f1(self) -> float:
        """F1 score of detection, 0..1: 2 TP / (2 TP + FP + FN); 1 without any object, 0 if only one side has any."""
        return quotient(2 * self.detected, self.true + self.predicted, 1.0)

    @property
    def dice(self) -> float:
        """Object-level Dice index, 0..1; 1 without any object, 0 if only one side has any."""
        return self._mean(self.true_dice, self.predicted_dice, undefined=1.0)

    @property
    def hausdorff(self) -> float:
        """Object-level Hausdorff distance, in pixels; 0 without any object.

        In an image where ground truth or prediction has no object, which the challenge leaves open, the distance of the
        other's objects is the image diagonal, the largest possible one. If one of them has no object in any image, the
        score is the mean distance of the other's objects.
        """
        return self._mean(self.true_distance, self.predicted_distance, undefined=0.0)

    def _mean(self, true: float, predicted: float, undefined: float) -> float:
        """Returns the average of both sides' area-weighted means, or the mean of the only side with objects."""
        sides = [(true, self.true_area), (predicted, self.predicted_area)]
        means = [total / area for total, area in sides if area]
        return float(np.mean(means)) if means else undefined


def glas_scores(pair: Overlaps) -> Glas:
    """Computes an image's contributions to the three scores of the GlaS challenge.

    The counterpart of an object is the object of the other label image that shares most pixels with it.

    - Detection: a predicted object is a true positive if it covers more than half of its counterpart. (The challenge's
      text says "at least 50%"; its program, which the published figures come from, requires more, so that no true
      object is detected twice.) Every true object that is not detected is a false negative.
    - Dice: 2 |G and S| / (|G| + |S|) of an object and its counterpart; 0 without one.
    - Hausdorff: distance of an object to its counterpart or, without one, to the object with the smallest Hausdorff
      distance.

    Args:
        pair: Overlaps of ground truth and prediction.

    Returns:
        The `Glas` of this image.
    """
    true_area, predicted_area = pair.truth_areas[pair.truth_index], pair.predicted_areas[pair.predicted_index]
    of_truth = pair.partner_of_truth[pair.truth_index] == pair.predicted_index
    of_predicted = pair.partner_of_predicted[pair.predicted_index] == pair.truth_index
    dice = 2 * pair.intersections / (true_area + predicted_area)
    true_distances, predicted_distances = _distances(pair)
    return Glas(
        detected=int((of_predicted & (2 * pair.intersections > true_area)).sum()),
        true=len(pair.truth_ids),
        predicted=len(pair.predicted_ids),
        true_area=int(pair.truth_areas.sum()),
        predicted_area=int(pair.predicted_areas.sum()),
        true_dice=float((dice * true_area)[of_truth].sum()),
        predicted_dice=float((dice * predicted_area)[of_predicted].sum()),
        true_distance=float(true_distances @ pair.truth_areas),
        predicted_distance=float(predicted_distances @ pair.predicted_areas),
    )


def _distances(pair: Overlaps) -> tuple[np.ndarray, np.ndarray]:
    """Returns the Hausdorff distances of true objects, and of predicted ones, to their counterparts."""
    if not len(pair.truth_ids) or not len(pair.predicted_ids):
        diagonal = np.hypot(*pair.truth.shape)
        return np.full(len(pair.truth_ids), diagonal), np.full(len(pair.predicted_ids), diagonal)
    truth, predicted = Shapes(pair.truth), Shapes(pair.predicted)

    @cache
    def distance(i: int, j: int) -> float:
        return hausdorff(truth, i, predicted, j)

    of_truth = [
        distance(i, j) if j >= 0 else nearest(truth, i, predicted) for i, j in enumerate(pair.partner_of_truth.tolist())
    ]
    of_predicted = [
        distance(i, j) if i >= 0 else nearest(predicted, j, truth)
        for j, i in enumerate(pair.partner_of_predicted.tolist())
    ]
    return np.array(of_truth), np.array(of_predicted)
