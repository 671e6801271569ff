"""Fusion of the instances of several views of one image, which vote on pixels and scores.

An instance is a box with the probabilities inside it, never a mask of the image's size, so memory grows with the areas
of the boxes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from nucleus.models.parts import meet, window

# IoU above which two masks are one instance. At most one of several disjoint masks exceeds it with another mask.
MATCHING_IOU = 0.5
# Share of the smaller of two instances in their overlap above which they are rivals for the same pixels.
_RIVAL_OVERLAP = 0.5

# Boxes int [N, 4], the probabilities inside each, scores [N].
Found = tuple[np.ndarray, Sequence[np.ndarray], np.ndarray]


def merge_views(found: Iterable[Found], least_share: float = 0.5, threshold: float = 0.5) -> Found:
    """Merges the instances of several views of one image.

    The instances of each view are matched greedily, largest IoU first, with those of the views before it; an instance
    without a match is new. The probabilities of matched instances are averaged, and their scores are averaged over all
    views, so that an instance in few views gets a lower score. Then rare instances are removed, and so is the one with
    the lower score of two rivals for the same pixels, if most of its views lack the other (such as two nuclei merged in
    one view). Two rivals that most views have together are kept, for the overlap rule to decide.

    This is weighted boxes fusion (Solovyev, Wang and Gabruseva, "Weighted boxes fusion: ensembling boxes from different
    object detection models", 2021, section 3) for masks, with one match per view.

    Args:
        found: (boxes, probabilities, scores) of each view, in pixels of the image: boxes int `[N, 4]`, (y1, x1, y2, x2)
            with y2 and x2 exclusive; probabilities, N float arrays `[y2 - y1, x2 - x1]` in 0..1; scores float `[N]` in
            0..1. It is iterated once.
        least_share: Least share of the views that have an instance, above 0 and at most 1.
        threshold: Least probability of a pixel of an instance, 0..1.

    Returns:
        boxes: int64 `[M, 4]`, tight around the masks.
        masks: M bool arrays of the boxes' sizes.
        scores: float32 `[M]` in 0..1, descending.

    Raises:
        ValueError: There is no view.
    """
    merged: list[_Merged] = []
    views = 0
    for view, (boxes, probabilities, scores) in enumerate(found):
        views += 1
        seen = [
            _Merged(np.asarray(box, np.int64), np.asarray(crop, np.float64), [float(score)], [view], threshold)
            for box, crop, score in zip(boxes, probabilities, scores, strict=True)
        ]
        _add_view(merged, [instance for instance in seen if instance.area])
    if not views:
        raise ValueError("There is no view whose instances could vote.")
    common = [instance for instance in merged if len(instance.views) / views >= least_share]
    kept = _without_rivals(sorted(common, key=lambda instance: -sum(instance.scores)))
    trimmed = [_trim(instance.box, instance.mask) for instance in kept]
    return (
        np.array([box for box, _ in trimmed], np.int64).reshape(-1, 4),
        [mask for _, mask in trimmed],
        np.array([sum(instance.scores) / views for instance in kept], np.float32),
    )


@dataclass
class _Merged:
    """One instance, merged from the views so far.

    Attributes:
        box: int64 `[4]`, (y1, x1, y2, x2) around the instance in all views.
        total: float64 `[y2 - y1, x2 - x1]`, sum of the probabilities, in double precision so that the average of equal
            probabilities is exact.
        scores: Score in each view that has the instance.
        views: Indices of the views that have the instance.
        threshold: Least average probability of a pixel of the instance.
    """

    box: np.ndarray
    total: np.ndarray
    scores: list[float]
    views: list[int]
    threshold: float

    def __post_init__(self) -> None:
        self._count()

    def _count(self) -> None:
        self.mask = self.total / len(self.views) >= self.threshold
        self.area = int(np.count_nonzero(self.mask))

    def add(self, other: _Merged) -> None:
        """Adds the instance as another view has it."""
        union = np.concatenate([np.minimum(self.box[:2], other.box[:2]), np.maximum(self.box[2:], other.box[2:])])
        total = np.zeros(union[2:] - union[:2])
        for part in (self, other):
            total[window(part.box, union)] += part.total
        self.box, self.total = union, total
        self.scores += other.scores
        self.views += other.views
        self._count()

    def shared_with(self, other: _Merged) -> int:
        """Counts the pixels in both instances."""
        common = np.concatenate([np.maximum(self.box[:2], other.box[:2]), np.minimum(self.box[2:], other.box[2:])])
        mine, theirs = (part.mask[window(common, part.box)] for part in (self, other))
        return int(np.count_nonzero(mine & theirs))


def _add_view(merged: list[_Merged], seen: Sequence[_Merged]) -> None:
    """Merges the instances of one view into those of the views before it."""
    pairs = []
    boxes = _boxes(merged)
    for number, instance in enumerate(seen):
        for index in np.flatnonzero(meet(instance.box, boxes)).tolist():
            shared = instance.shared_with(merged[index])
            iou = shared / (instance.area + merged[index].area - shared)
            if iou > MATCHING_IOU:
                pairs.append((-iou, index, number))
    taken: set[int] = set()
    partners: dict[int, int] = {}
    for _, index, number in sorted(pairs):
        if index not in taken and number not in partners:
            taken.add(index)
            partners[number] = index
    for number, instance in enumerate(seen):
        if number in partners:
            merged[partners[number]].add(instance)
        else:
            merged.append(instance)


def _without_rivals(merged: Sequence[_Merged]) -> list[_Merged]:
    """Removes the rivals of better instances, from instances by descending score."""
    boxes = _boxes(merged)
    kept: list[int] = []
    for number, instance in enumerate(merged):
        better = (merged[kept[index]] for index in np.flatnonzero(meet(instance.box, boxes[kept])))
        if instance.area and not any(_is_rival(instance, other) for other in better):
            kept.append(number)
    return [merged[number] for number in kept]


def _is_rival(instance: _Merged, better: _Merged) -> bool:
    together = len(set(instance.views) & set(better.views))
    if 2 * together > len(instance.views):
        return False
    return instance.shared_with(better) > _RIVAL_OVERLAP * min(instance.area, better.area)


def _boxes(instances: Sequence[_Merged]) -> np.ndarray:
    return np.array([instance.box for instance in instances], np.int64).reshape(-1, 4)


def _trim(box: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Crops a mask that is not empty, and its box, to its pixels."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    first, last = np.array([rows[0], columns[0]]), np.array([rows[-1], columns[-1]]) + 1
    return np.concatenate([box[:2] + first, box[:2] + last]), mask[first[0] : last[0], first[1] : last[1]]
