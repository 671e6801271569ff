"""Objects of a fusion: what two models say of each nucleus, pixel by pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from nucleus.evaluation.scores.overlaps import Overlaps, overlaps
from nucleus.images.labels import bounding_boxes, paint
from nucleus.models.base import Prediction
from nucleus.models.voting import MATCHING_IOU, Found

# Kinds of objects: found by both models, by the one that finds objects alone, and by the one that rates pixels alone.
BOTH, OBJECTS, PIXELS = KINDS = ("both", "objects", "pixels")
# Pixels around an object's boxes that may belong to it.
MARGIN = 4
# Logarithms of odds, and distances in pixels, are cut at these.
_MOST_LOGIT, _MOST_DISTANCE = 5.0, 8.0
# Facts on a whole object: scores by both models (0 where one lacks it), the IoU of its two masks, and the largest share
# of the smaller one in its overlap with any other object of the other model.
OBJECT_FACTS = ("object_score", "pixel_score", "agreement", "rival")


@dataclass(frozen=True)
class Evidence:
    """Evidence of two models for one image.

    Attributes:
        found: Boxes, mask probabilities and scores of the model that finds objects, such as a Mask R-CNN.
        channels: Name of each channel of the model that rates pixels, such as a U-Net.
        probabilities: float `[H, W, C]` in 0..1 of these channels.
        nuclei: Nuclei that the latter model makes of them.
        image: uint8 `[H, W, 3]` RGB, as read, at the size of the probabilities.
    """

    found: Found
    channels: tuple[str, ...]
    probabilities: np.ndarray
    nuclei: Prediction
    image: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self.nuclei.labels.shape

    @cached_property
    def logits(self) -> np.ndarray:
        """Logarithms of the channels' odds, float32 `[H, W, C]`."""
        return _logit(self.probabilities)

    @cached_property
    def painted(self) -> tuple[np.ndarray, np.ndarray]:
        """Label image of the found objects, and the number of each; see `nucleus.images.labels.paint`."""
        boxes, crops, scores = self.found
        return paint(boxes, [np.asarray(crop) >= 0.5 for crop in crops], scores, self.shape)

    def objects_alone(self) -> Prediction:
        """Returns the nuclei of the model that finds objects."""
        labels, kept = self.painted
        return Prediction(labels, np.asarray(self.found[2], np.float32)[kept])


@dataclass(frozen=True)
class FusedObject:
    """One object with the pixels that may belong to it.

    Attributes:
        kind: One of KINDS.
        window: (y1, x1, y2, x2) in pixels, y2 and x2 exclusive.
        features: float16 `[y2 - y1, x2 - x1, F]`, those of `pixel_features`.
        facts: float64 `[G]`, those of OBJECT_FACTS.
    """

    kind: str
    window: tuple[int, int, int, int]
    features: np.ndarray
    facts: np.ndarray

    @property
    def region(self) -> tuple[slice, slice]:
        """Slices of the window in an image."""
        y1, x1, y2, x2 = self.window
        return slice(y1, y2), slice(x1, x2)

    def inside(self) -> np.ndarray:
        """Returns the pixels of the object's mask by the model that finds objects, else by the other, bool `[h, w]`."""
        return self.features[..., 0] > 0

    def near(self, distance: float) -> np.ndarray:
        """Returns the pixels within a distance of the outline of one of the object's masks, bool `[h, w]`."""
        count = 1 + (self.kind == BOTH)
        return (np.abs(self.features[..., :count]) < distance).any(axis=-1)


def pixel_features(channels: Sequence[str], kind: str) -> tuple[str, ...]:
    """Returns the names of the features of a pixel near an object.

    Distances to the outlines of the object's masks, in pixels and positive inside, by the model that finds objects and
    by the one that rates pixels; the logarithm of the odds of the object's soft mask, and that of every channel. Those
    of a model that lacks the object are left out.

    Args:
        channels: Names of the channels.
        kind: One of KINDS.

    Examples:
        >>> pixel_features(("mask",), "objects")
        ('object_distance', 'soft_mask', 'mask')
        >>> pixel_features(("mask",), "pixels")
        ('pixel_distance', 'mask')
    """
    distances = [name for name, lacks in (("object_distance", PIXELS), ("pixel_distance", OBJECTS)) if kind != lacks]
    return (*distances, *(("soft_mask",) if kind != PIXELS else ()), *channels)


def gather_objects(evidence: Evidence) -> list[FusedObject]:
    """Returns the objects that either model finds in an image; two masks with an IoU above MATCHING_IOU are one object.

    Args:
        evidence: What the models say.
    """
    boxes, crops, scores = evidence.found
    labels, kept = evidence.painted
    pair = overlaps(labels, evidence.nuclei.labels)
    same = pair.iou > MATCHING_IOU
    partner = dict(zip(pair.truth_index[same].tolist(), pair.predicted_index[same].tolist(), strict=True))
    agreement = dict(zip(partner, pair.iou[same].tolist(), strict=True))
    rival, pixel_rival = _largest_shares(pair, same)
    pixel_boxes, pixel_scores = bounding_boxes(evidence.nuclei.labels), evidence.nuclei.scores
    objects = []
    for index, number in enumerate(kept.tolist()):
        soft = (np.asarray(boxes[number], np.int64), np.asarray(crops[number], np.float32))
        if index in partner:
            other = partner[index]
            clash = max(rival[index], pixel_rival[other])
            facts = (scores[number], pixel_scores[other], agreement[index], clash)
            objects.append(_object(evidence, soft, (pixel_boxes[other], other + 1), facts))
        else:
            objects.append(_object(evidence, soft, None, (scores[number], 0.0, 0.0, rival[index])))
    for other in sorted(set(range(len(pixel_scores))) - set(partner.values())):
        facts = (0.0, pixel_scores[other], 0.0, pixel_rival[other])
        objects.append(_object(evidence, None, (pixel_boxes[other], other + 1), facts))
    return objects


def _largest_shares(pair: Overlaps, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the largest share of the smaller one in any overlap of every object with others, of each model."""
    smaller = np.minimum(pair.truth_areas[pair.truth_index], pair.predicted_areas[pair.predicted_index])
    share = np.where(same, 0, pair.intersections / smaller)
    ours, theirs = np.zeros(len(pair.truth_ids)), np.zeros(len(pair.predicted_ids))
    np.maximum.at(ours, pair.truth_index, share)
    np.maximum.at(theirs, pair.predicted_index, share)
    return ours, theirs


def _object(
    evidence: Evidence,
    soft: tuple[np.ndarray, np.ndarray] | None,
    solid: tuple[np.ndarray, int] | None,
    facts: tuple[float, ...],
) -> FusedObject:
    """Returns the object of a box with its mask probabilities, of a box and a label, or of both."""
    boxes = np.array([part[0] for part in (soft, solid) if part is not None])
    y1, x1 = np.maximum(boxes[:, :2].min(axis=0) - MARGIN, 0).tolist()
    y2, x2 = np.minimum(boxes[:, 2:].max(axis=0) + MARGIN, evidence.shape).tolist()
    distances, masks = [], []
    if soft is not None:
        top, left, bottom, right = soft[0] - (y1, x1, y1, x1)
        probability = np.zeros((y2 - y1, x2 - x1), np.float32)
        probability[top:bottom, left:right] = soft[1]
        distances.append(_signed_distance(probability >= 0.5))
        masks.append(_logit(probability))
    if solid is not None:
        distances.append(_signed_distance(evidence.nuclei.labels[y1:y2, x1:x2] == solid[1]))
    kind = PIXELS if soft is None else OBJECTS if solid is None else BOTH
    # Half precision suffices, and a fit holds the objects of all its images.
    features = np.dstack([*distances, *masks, evidence.logits[y1:y2, x1:x2]]).astype(np.float16)
    return FusedObject(kind, (y1, x1, y2, x2), features, np.array(facts, np.float64))


def _logit(probabilities: np.ndarray) -> np.ndarray:
    """Returns the logarithm of the odds, cut at _MOST_LOGIT."""
    least = 1 / (1 + np.exp(_MOST_LOGIT))
    clipped = np.clip(np.asarray(probabilities, np.float32), least, 1 - least)
    return np.log(clipped / (1 - clipped))


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Returns the distance of every pixel to the outline of a mask, positive inside, cut at _MOST_DISTANCE."""
    if not mask.any() or mask.all():
        return np.full(mask.shape, _MOST_DISTANCE if mask.any() else -_MOST_DISTANCE, np.float32)
    bits = mask.view(np.uint8)
    inside, outside = (cv2.distanceTransform(part, cv2.DIST_L2, 3) for part in (bits, 1 - bits))
    return np.clip(np.where(mask, inside - 0.5, 0.5 - outside), -_MOST_DISTANCE, _MOST_DISTANCE)
