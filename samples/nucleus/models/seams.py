"""Merging of the nuclei that overlapping tiles of one image show.

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

"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nucleus.images.labels import bounding_boxes
from nucleus.models.base import Prediction

# IoU above which two pieces, in what both tiles see, are one nucleus.
_SAME = 0.5
# Side in pixels of the cells by which overlapping nuclei are looked up.
_CELL = 64
# Tiles, in pixels of the image: (y1, x1, y2, x2) with y2 and x2 exclusive.
Region = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Part:
    """A nucleus, or a part of one, as one tile sees it.

    Attributes:
        box: int64 `[4]`, (y1, x1, y2, x2) in pixels of the image, y2 and x2 exclusive.
        bits: Mask of the box, row by row, eight pixels a byte.
        area: Number of pixels.
        score: Score in 0..1.
        clearance: Least distance in pixels of the box to an edge of the tile inside the image; infinite without one.
        tile: The tile.
    """

    box: np.ndarray
    bits: bytes
    area: int
    score: float
    clearance: float
    tile: Region

    @property
    def mask(self) -> np.ndarray:
        """Mask of the box, bool `[y2 - y1, x2 - x1]`."""
        return _unpack(self.bits, self.box)


@dataclass(frozen=True, slots=True)
class Nucleus:
    """A nucleus of the merged prediction; those of one image have no pixel in common.

    Attributes:
        box: int64 `[4]`, (y1, x1, y2, x2) in pixels of the image, y2 and x2 exclusive.
        bits: Mask of the box, row by row, eight pixels a byte.
        score: Score in 0..1.
    """

    box: np.ndarray
    bits: bytes
    score: float

    @property
    def mask(self) -> np.ndarray:
        """Mask of the box, bool `[y2 - y1, x2 - x1]`."""
        return _unpack(self.bits, self.box)


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
    clearances = _clearances(boxes, np.array(tile), shape)
    parts = []
    for number, (y1, x1, y2, x2) in enumerate(inside, start=1):
        mask, at = labels[y1:y2, x1:x2] == number, number - 1
        area = int(np.count_nonzero(mask))
        parts.append(Part(boxes[at].copy(), pack(mask), area, float(scores[at]), float(clearances[at]), tile))
    return parts


def merge(parts: Sequence[Part], tiles: Sequence[Region], shape: tuple[int, int], overlap: int) -> Prediction:
    """Merges the nuclei of all tiles into one prediction, by the rule in the module's docstring.

    Args:
        parts: Nuclei of all tiles.
        tiles: All tiles.
        shape: (height, width) of the image.
        overlap: Overlap of neighbouring tiles in pixels.
    """
    labels, found = np.zeros(shape, np.int32), settle(parts, tiles, shape, overlap)
    paint(labels, (0, 0), found, range(len(found)))
    return Prediction(labels, np.array([nucleus.score for nucleus in found], np.float32))


def settle(parts: Sequence[Part], tiles: Sequence[Region], shape: tuple[int, int], overlap: int) -> list[Nucleus]:
    """Decides which nuclei of all tiles remain, and which pixels are theirs, by the rule in the module's docstring.

    Args:
        parts: Nuclei of all tiles.
        tiles: All tiles.
        shape: (height, width) of the image.
        overlap: Overlap of neighbouring tiles in pixels.

    Returns:
        Nuclei without common pixels, in the order of their labels.
    """
    rim, regions = max(1, overlap // 16), np.array(tiles)
    whole = [part for part in parts if part.clearance >= rim]
    pieces = [
        part for part in parts if part.clearance < rim and _clearances(part.box, regions, shape).max() <= part.clearance
    ]
    whole.sort(key=lambda part: (-part.clearance, -part.area))
    joined = sorted((_fuse(group, shape) for group in _group(pieces)), key=lambda found: -np.count_nonzero(found[1]))
    found: list[Nucleus] = []
    near = _Neighbours()
    for part in whole:
        _take(part.box, part.mask, part.score, found, near)
    for box, mask, score in joined:
        _take(box, mask, score, found, near)
    return found


def paint(labels: np.ndarray, corner: tuple[int, int], nuclei: Sequence[Nucleus], numbers: Iterable[int]) -> None:
    """Writes nuclei into a label image, or into a part of it.

    Args:
        labels: int32 `[H, W]`, changed in place; nuclei are cut off at its edges.
        corner: (y, x) of its first pixel in the image.
        nuclei: All nuclei of the image.
        numbers: Indices of those to write; the label is one more.
    """
    window = np.array([*corner, corner[0] + labels.shape[0], corner[1] + labels.shape[1]])
    for number in numbers:
        nucleus = nuclei[number]
        common = _intersection(nucleus.box, window)
        if (common[:2] < common[2:]).all():
            labels[_window(common, window)][nucleus.mask[_window(common, nucleus.box)]] = number + 1


def pack(mask: np.ndarray) -> bytes:
    """Returns a mask as bytes of eight pixels each."""
    return np.packbits(mask).tobytes()


def _unpack(bits: bytes, box: np.ndarray) -> np.ndarray:
    height, width = int(box[2] - box[0]), int(box[3] - box[1])
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=height * width).reshape(height, width).astype(bool)


class _Neighbours:
    """The nuclei that were taken so far, by the cells of a grid that their boxes meet."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, int], list[int]] = {}

    def cells(self, box: np.ndarray) -> Iterator[tuple[int, int]]:
        """Yields the cells that a box meets."""
        y1, x1, y2, x2 = (int(side) for side in box)
        rows, columns = range(y1 // _CELL, (y2 - 1) // _CELL + 1), range(x1 // _CELL, (x2 - 1) // _CELL + 1)
        return itertools.product(rows, columns)

    def add(self, number: int, box: np.ndarray) -> None:
        """Adds a nucleus."""
        for cell in self.cells(box):
            self._cells.setdefault(cell, []).append(number)

    def find(self, box: np.ndarray) -> set[int]:
        """Returns the nuclei of all cells that a box meets."""
        return {number for cell in self.cells(box) for number in self._cells.get(cell, ())}


def _take(box: np.ndarray, mask: np.ndarray, score: float, found: list[Nucleus], near: _Neighbours) -> None:
    """Takes a nucleus unless more than half of its pixels are taken already; else what is left of it."""
    free = mask
    for number in near.find(box):
        other = found[number]
        common = _intersection(box, other.box)
        if (common[:2] < common[2:]).all():
            free = mask.copy() if free is mask else free
            free[_window(common, box)] &= ~other.mask[_window(common, other.box)]
    if 2 * np.count_nonzero(free) >= np.count_nonzero(mask):
        near.add(len(found), box)
        found.append(Nucleus(box, pack(free), score))


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
    weights = [piece.area for piece in group]
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
