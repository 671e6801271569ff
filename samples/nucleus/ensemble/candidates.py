"""Candidates of an ensemble: the masks that several models predict for one image."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nucleus.evaluation.scores.overlaps import overlaps
from nucleus.images.labels import areas, bounding_boxes
from nucleus.models.base import Prediction


@dataclass(frozen=True)
class Candidates:
    """All predicted masks of one image, sorted by member and then by label.

    Attributes:
        members: Names of the models.
        labels: Label image of each member, integer `[H, W]`, labels 1..N without a gap.
        member: int64 `[N]`, index into members of each mask.
        label: int64 `[N]`, label of each mask in its member's label image.
        score: float64 `[N]`, score by the mask's own model, 0..1.
        area: int64 `[N]`, number of pixels.
        boxes: int64 `[N, 4]`, (y1, x1, y2, x2) in pixels, y2 and x2 exclusive.
        first: int64 `[K]`, index of the mask of the earlier member in each pair that shares pixels.
        second: int64 `[K]`, index of the other mask in each pair.
        shared: int64 `[K]`, number of shared pixels of each pair.
    """

    members: tuple[str, ...]
    labels: tuple[np.ndarray, ...]
    member: np.ndarray
    label: np.ndarray
    score: np.ndarray
    area: np.ndarray
    boxes: np.ndarray
    first: np.ndarray
    second: np.ndarray
    shared: np.ndarray

    def __len__(self) -> int:
        return len(self.member)

    @property
    def iou(self) -> np.ndarray:
        """Intersection over union of each pair that shares pixels, float64 `[K]`."""
        return self.shared / (self.area[self.first] + self.area[self.second] - self.shared)

    def crop(self, index: int) -> np.ndarray:
        """Returns a mask within its box, bool `[y2 - y1, x2 - x1]`."""
        y1, x1, y2, x2 = self.boxes[index]
        return self.labels[self.member[index]][y1:y2, x1:x2] == self.label[index]


def gather(predictions: Mapping[str, Prediction]) -> Candidates:
    """Collects the predictions of several models for one image.

    Args:
        predictions: By the model's name, (labels integer `[H, W]` with 0 for background and 1..N without a gap, scores
            `[N]` in 0..1), as `NucleusModel.predict` returns them.

    Returns:
        The `Candidates`.

    Raises:
        ValueError: There is no prediction, the label images differ in shape, labels have a gap, or labels and scores
            differ in number.
    """
    if not predictions:
        raise ValueError("An ensemble needs the predictions of one model at least.")
    label_images, scores = [], []
    for name, (labels, given) in predictions.items():
        labels, given = np.asarray(labels), np.asarray(given, np.float64)
        _check(name, labels, given)
        # Fitting holds the label images of a whole data set in memory; one byte per pixel suffices for most.
        label_images.append(labels.astype(np.min_scalar_type(int(labels.max(initial=0)))))
        scores.append(given)
    shapes = {labels.shape for labels in label_images}
    if len(shapes) > 1:
        found = ", ".join(f"{name} {labels.shape}" for name, labels in zip(predictions, label_images, strict=True))
        raise ValueError(f"The members' label images must have one shape. Received: {found}")
    counts = [len(given) for given in scores]
    first, second, shared = _pairs(label_images, counts)
    return Candidates(
        members=tuple(predictions),
        labels=tuple(label_images),
        member=np.repeat(np.arange(len(counts)), counts),
        label=np.concatenate([np.arange(1, count + 1) for count in counts]),
        score=np.concatenate(scores),
        area=np.concatenate([areas(labels) for labels in label_images]),
        boxes=np.concatenate([bounding_boxes(labels) for labels in label_images]).astype(np.int64),
        first=first,
        second=second,
        shared=shared,
    )


def true_iou(candidates: Candidates, truth: np.ndarray) -> np.ndarray:
    """Computes the IoU of each mask with its best true nucleus, the target of an ensemble's regression.

    Args:
        candidates: Masks of the image.
        truth: Integer `[H, W]`, label image of the ground truth.

    Returns:
        float64 `[N]` in 0..1; 0 for a mask that overlaps no nucleus.

    Raises:
        ValueError: The shapes of masks and truth differ.
    """
    return np.concatenate([overlaps(labels, truth).best_iou for labels in candidates.labels])


def _check(name: str, labels: np.ndarray, scores: np.ndarray) -> None:
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
        raise ValueError(f"{name}: expected a label image [H, W]. Received: shape {labels.shape}, {labels.dtype}")
    sizes = areas(labels)
    if not sizes.all():
        raise ValueError(f"{name}: labels must be 1 to {len(sizes)} without a gap; {np.argmin(sizes) + 1} is missing")
    if scores.shape != sizes.shape or not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(f"{name}: expected {len(sizes)} scores in 0..1, one a label. Received: {scores}")


def _pairs(label_images: list[np.ndarray], counts: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns (first, second, shared) of the masks of different members that share pixels; see `Candidates`."""
    starts = np.cumsum([0, *counts])
    found = []
    for one, other in itertools.combinations(range(len(counts)), 2):
        pair = overlaps(label_images[one], label_images[other])
        found.append((pair.truth_index + starts[one], pair.predicted_index + starts[other], pair.intersections))
    if not found:
        return tuple(np.zeros(0, np.int64) for _ in range(3))
    return tuple(np.concatenate(column).astype(np.int64) for column in zip(*found, strict=True))
