"""A wrapper that shows a model large images in overlapping tiles, so that memory does not grow with the image.

The rule, by which no nucleus is lost, cut or counted twice at a seam:

1. An image of more than twice a tile's pixels is divided into tiles of one size, which overlap by `overlap` pixels or
   more. A tile in which the model reaches a limit of nuclei (`nucleus.models.limits`) is divided again.
2. Each nucleus that is found has a clearance: the least distance of its box to those edges of its tile that lie inside
   the image. With a clearance below `overlap` / 16 it may be a part of a nucleus that goes on beyond the tile: a piece.
3. A piece whose box another tile sees with more clearance is left to that tile. Only nuclei larger than 7/8 of
   `overlap` leave pieces. Two pieces of neighbouring tiles are joined if their IoU is above 0.5 in what both tiles see
   of the image; each pixel is taken from the tile that sees it with more clearance. So a nucleus that no tile sees
   whole is one nevertheless, and of two that touch each stays one.
4. Nuclei are taken by descending clearance, the larger first of equals, joined pieces last. One of whose pixels more
   than half are taken already was found by another tile too, and better; of any other only the pixels that are left
   are taken.

One owner for every object is the idea of StarDist's `predict_instances_big` (Schmidt et al. 2018); that places far from
a tile's edges count more, that of Cellpose's tiles (Stringer et al. 2021). Here the nuclei that were found decide, not
the position of their owner alone: two tiles whose networks disagree by a few pixels neither lose nor double one.

Images are preprocessed before they are divided, so that all tiles show one picture. The memory needed is that of the
model for one tile (or for an image predicted whole), of the image and of its label image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from nucleus.images.labels import bounding_boxes
from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.limits import limits_of, report_limit, watch_limits
from nucleus.models.wrapper import Wrapper

# Steps from tile to tile are multiples of this where tiles are large enough, so that the cells of a network's feature
# maps lie on the same pixels in every tile: half of 64, since the shipped Mask R-CNN enlarges images twice.
_ALIGNMENT = 32
# IoU above which two pieces, in what both tiles see, are one nucleus.
_SAME = 0.5
# Tiles, in pixels of the image: (y1, x1, y2, x2) with y2 and x2 exclusive.
Region = tuple[int, int, int, int]

_show_progress: ContextVar[bool] = ContextVar("show_progress", default=False)


class Tiles(Wrapper):
    """A model that predicts large images in overlapping tiles; see the module's docstring for the rule at their seams.

    Args:
        model: Any nucleus model.
        side: Largest side of a tile in pixels. An image of up to `2 * side * side` pixels is predicted whole.
        overlap: Least overlap of neighbouring tiles in pixels, at most half of `side`.

    Raises:
        ValueError: `overlap` is not from 1 to half of `side`.

    Examples:
        >>> from nucleus.models.classical.model import ClassicalModel
        >>> image = np.zeros((300, 300), np.uint8)
        >>> image[20:40, 80:130] = image[200:230, 120:150] = 200
        >>> labels, scores = Tiles(ClassicalModel(), side=100, overlap=32).predict(image)[0]
        >>> labels.max(), len(scores)
        (np.int32(2), 2)
    """

    def __init__(self, model: NucleusModel, side: int, overlap: int):
        if not 1 <= overlap <= side / 2:
            raise ValueError(f"Expected an overlap from 1 to half of a tile's side. Received: {overlap} of {side}")
        super().__init__(model)
        self.side, self.overlap = side, overlap

    def calibrate(self, image: np.ndarray) -> NucleusModel:
        """Calibrates the wrapped model; see `NucleusModel.calibrate`."""
        return Tiles(self.model.calibrate(image), self.side, self.overlap)

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        small = [index for index, image in enumerate(images) if self._fits(image)]
        found: dict[int, Prediction] = {}
        if len(small) > 1:
            with watch_limits() as reached:
                predictions = self.model._predict([images[index] for index in small])
            crowded = {small[limit.index] for limit in reached}
            pairs = zip(small, predictions, strict=True)
            found = {index: prediction for index, prediction in pairs if index not in crowded}
        for index, image in enumerate(images):
            if index not in found:
                with limits_of([index]):
                    found[index] = self._predict_one(image)
        return [found[index] for index in range(len(images))]

    def describe(self) -> dict[str, Any]:
        """Adds the tiles' size; see `NucleusModel.describe`."""
        return {**super().describe(), "side": self.side, "overlap": self.overlap}

    def _fits(self, image: np.ndarray) -> bool:
        return image.shape[0] * image.shape[1] <= 2 * self.side**2

    def _predict_one(self, image: np.ndarray) -> Prediction:
        shape = image.shape[:2]
        whole = (0, 0, *shape)
        regions = [whole] if self._fits(image) else divide(whole, self.side, self.overlap)
        model = self.model if len(regions) == 1 else self.model.calibrate(image)
        seen: list[Region] = []
        parts: list[Part] = []
        hidden = len(regions) == 1 or not _show_progress.get()
        for region in tqdm(regions, desc="tiles", unit="tile", leave=False, disable=hidden):
            for tile, prediction in self._look(model, image, region):
                if tile == whole:
                    return prediction
                seen.append(tile)
                parts += find_parts(prediction, tile, shape)
        return merge(parts, seen, shape, self.overlap)

    def _look(self, model: NucleusModel, image: np.ndarray, region: Region) -> Iterator[tuple[Region, Prediction]]:
        """Yields the prediction of a region, or those of its tiles where the model reaches a limit in it."""
        y1, x1, y2, x2 = region
        with watch_limits() as reached:
            (prediction,) = model._predict([np.ascontiguousarray(image[y1:y2, x1:x2])])
        # Tiles of less than two overlaps would not make the work smaller.
        length = max(y2 - y1, x2 - x1)
        if reached and length >= 3 * self.overlap:
            for tile in divide(region, -(-(length + self.overlap) // 2), self.overlap):
                yield from self._look(model, image, tile)
            return
        for limit in reached:
            report_limit(limit)
        yield region, prediction


@contextmanager
def tile_progress(show: bool = True) -> Iterator[None]:
    """Shows a progress bar of the tiles of every large image that is predicted inside a block.

    Args:
        show: False to show no progress bar.
    """
    token = _show_progress.set(show)
    try:
        yield
    finally:
        _show_progress.reset(token)


def divide(region: Region, side: int, overlap: int) -> list[Region]:
    """Divides a region of an image into overlapping tiles of one size, as few and as small as possible.

    Args:
        region: (y1, x1, y2, x2) in pixels.
        side: Largest side of a tile in pixels.
        overlap: Least overlap of neighbouring tiles in pixels, less than `side`.

    Returns:
        The tiles row by row; the region itself where it is no larger than a tile.

    Examples:
        >>> divide((0, 0, 100, 250), side=128, overlap=32)
        [(0, 0, 100, 128), (0, 96, 100, 224), (0, 122, 100, 250)]
    """
    y1, x1, y2, x2 = region
    rows, columns = _divide_axis(y1, y2, side, overlap), _divide_axis(x1, x2, side, overlap)
    return [(top, left, bottom, right) for top, bottom in rows for left, right in columns]


def _divide_axis(first: int, last: int, side: int, overlap: int) -> list[tuple[int, int]]:
    """Divides pixels `first` to `last` (exclusive) along an axis; returns the (start, stop) of each part."""
    covered = last - first - overlap
    if last - first <= side:
        return [(first, last)]
    step = _ceil(covered, _ceil(covered, side - overlap))
    aligned = _ALIGNMENT * _ceil(step, _ALIGNMENT)
    step = aligned if aligned + overlap <= side else step
    starts = [min(first + index * step, last - step - overlap) for index in range(_ceil(covered, step))]
    return [(start, start + step + overlap) for start in starts]


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)


@dataclass(frozen=True)
class Part:
    """A nucleus, or a part of one, as one tile sees it.

    Attributes:
        box: int64 `[4]`, (y1, x1, y2, x2) in pixels of the image, y2 and x2 exclusive.
        mask: bool `[y2 - y1, x2 - x1]`.
        score: Score in 0..1.
        clearance: Least distance in pixels of the box to an edge of the tile inside the image; infinite without one.
        tile: The tile.
    """

    box: np.ndarray
    mask: np.ndarray
    score: float
    clearance: float
    tile: Region


def find_parts(prediction: Prediction, tile: Region, shape: tuple[int, int]) -> list[Part]:
    """Returns the nuclei of one tile, in pixels of the image.

    Args:
        prediction: Labels and scores of the tile.
        tile: (y1, x1, y2, x2) of the tile in pixels of the image.
        shape: (height, width) of the image.
    """
    labels, scores = prediction
    inside = bounding_boxes(labels).astype(np.int64)
    boxes = inside + np.tile(tile[:2], 2)
    return [
        Part(box, labels[y1:y2, x1:x2] == number, float(score), float(clearance), tile)
        for number, ((y1, x1, y2, x2), box, score, clearance) in enumerate(
            zip(inside, boxes, scores, _clearances(boxes, np.array(tile), shape), strict=True), start=1
        )
    ]


def merge(parts: Sequence[Part], tiles: Sequence[Region], shape: tuple[int, int], overlap: int) -> Prediction:
    """Merges the nuclei of all tiles into one prediction, by the rule in the module's docstring.

    Args:
        parts: Nuclei of all tiles.
        tiles: All tiles.
        shape: (height, width) of the image.
        overlap: Overlap of neighbouring tiles in pixels.
    """
    rim, regions = max(1, overlap // 16), np.array(tiles)
    whole = [part for part in parts if part.clearance >= rim]
    pieces = [
        part for part in parts if part.clearance < rim and _clearances(part.box, regions, shape).max() <= part.clearance
    ]
    whole.sort(key=lambda part: (-part.clearance, -np.count_nonzero(part.mask)))
    joined = sorted((_fuse(group, shape) for group in _group(pieces)), key=lambda found: -np.count_nonzero(found[1]))
    labels, scores = np.zeros(shape, np.int32), []
    for (y1, x1, y2, x2), mask, score in [*((part.box, part.mask, part.score) for part in whole), *joined]:
        window = labels[y1:y2, x1:x2]
        free = mask & (window == 0)
        if 2 * np.count_nonzero(free) >= np.count_nonzero(mask):
            scores.append(score)
            window[free] = len(scores)
    return Prediction(labels, np.array(scores, np.float32))


def _clearances(boxes: np.ndarray, tiles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns the least distance of boxes to the edges of tiles that lie inside the image; negative outside a tile.

    Args:
        boxes: int `[..., 4]`.
        tiles: int `[..., 4]`.
        shape: (height, width) of the image.
    """
    distances = (boxes - tiles) * np.array([1, 1, -1, -1])
    return np.where(tiles == np.array([0, 0, *shape]), np.inf, distances).min(axis=-1)


def _group(pieces: Sequence[Part]) -> list[list[Part]]:
    """Groups the pieces of one nucleus each."""
    group_of = list(range(len(pieces)))
    boxes = np.array([piece.box for piece in pieces], np.int64).reshape(-1, 4)
    for number, piece in enumerate(pieces):
        meets = (boxes[:number, :2] < piece.box[2:]).all(axis=1) & (boxes[:number, 2:] > piece.box[:2]).all(axis=1)
        for other in np.flatnonzero(meets).tolist():
            if piece.tile != pieces[other].tile and _agree(piece, pieces[other]):
                old, new = group_of[other], group_of[number]
                group_of = [new if group == old else group for group in group_of]
    groups: dict[int, list[Part]] = {}
    for piece, group in zip(pieces, group_of, strict=True):
        groups.setdefault(group, []).append(piece)
    return list(groups.values())


def _agree(one: Part, other: Part) -> bool:
    """Returns whether two tiles see one nucleus, judged by the pixels that lie in both tiles."""
    common = _intersection(one.tile, other.tile)
    masks = np.zeros((2, common[2] - common[0], common[3] - common[1]), bool)
    for mask, part in zip(masks, (one, other), strict=True):
        box = _intersection(part.box, common)
        mask[_window(box, common)] = part.mask[_window(box, part.box)]
    return bool(np.count_nonzero(masks.all(axis=0)) > _SAME * np.count_nonzero(masks.any(axis=0)))


def _fuse(group: Sequence[Part], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns box, mask and score of a nucleus whose pieces several tiles see."""
    boxes = np.array([piece.box for piece in group])
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    mask, best = np.zeros(box[2:] - box[:2], bool), np.zeros(box[2:] - box[:2], np.float32)
    for tile in dict.fromkeys(piece.tile for piece in group):
        common = _intersection(box, tile)
        seen = np.zeros(common[2:] - common[:2], bool)
        for piece in group:
            if piece.tile == tile:
                seen[_window(piece.box, common)] |= piece.mask
        clearance, place = _pixel_clearances(common, tile, shape), _window(common, box)
        better = clearance > best[place]
        mask[place][better], best[place][better] = seen[better], clearance[better]
    weights = [np.count_nonzero(piece.mask) for piece in group]
    return box, mask, float(np.average([piece.score for piece in group], weights=weights))


def _pixel_clearances(box: np.ndarray, tile: Region, shape: tuple[int, int]) -> np.ndarray:
    """Returns the distance of every pixel of a box in a tile to the tile's edges inside the image, 1 at the edge."""
    along = []
    for axis in (0, 1):
        place = np.arange(box[axis], box[axis + 2], dtype=np.float32)
        before = np.where(tile[axis] == 0, np.inf, place - tile[axis] + 1)
        after = np.where(tile[axis + 2] == shape[axis], np.inf, tile[axis + 2] - place)
        along.append(np.minimum(before, after))
    return np.minimum(along[0][:, None], along[1])


def _intersection(one: Sequence[int], other: Sequence[int]) -> np.ndarray:
    return np.concatenate([np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])])


def _window(box: Sequence[int], around: Sequence[int]) -> tuple[slice, slice]:
    """Returns the slices of a box inside a box around it."""
    (y1, x1), (y2, x2) = (np.subtract(corner, around[:2]) for corner in (box[:2], box[2:]))
    return slice(y1, y2), slice(x1, x2)
