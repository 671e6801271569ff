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
5. Nuclei are numbered from top to bottom, and from left to right, by the first corner of their boxes.

An image is merged from top to bottom: after each row of tiles those nuclei are certain that no tile to come can change.
A nucleus waits if it reaches into the tiles to come, or if one that waits and comes before it by 4 overlaps it. The
result does not depend on when that is.

One owner for every object is the idea of StarDist's `predict_instances_big` (Schmidt et al. 2018); that places far from
a tile's edges count more, that of Cellpose's tiles (Stringer et al. 2021). Here the nuclei that were found decide, not
the position of their owner alone: two tiles whose networks disagree by a few pixels neither lose nor double one.

"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nucleus.images.labels import bounding_boxes
from nucleus.models.base import Prediction
from nucleus.models.parts import Nucleus, Part, Region, box_clearances, intersection, meet, pack, unpack, window
from nucleus.models.pieces import fuse, group_pieces, overlapping


class _Candidate(NamedTuple):
    """A nucleus that is taken unless more than half of its pixels are.

    Attributes:
        box: int64 `[4]`, (y1, x1, y2, x2) in pixels of the image.
        bits: Mask of the box.
        area: Number of pixels.
        score: Score in 0..1.
        tile: Number of its tile, in which no other overlaps it; a number of its own where it comes from several.
        parts: What it is made of.
    """

    box: np.ndarray
    bits: bytes
    area: int
    score: float
    tile: int
    parts: Sequence[Part]


class Seams:
    """The nuclei of an image's tiles, which come row by row and are decided on as soon as they are certain.

    Args:
        shape: (height, width) of the image.
        overlap: Overlap of neighbouring tiles in pixels.

    Attributes:
        certain: Number of rows of the image, from the top, in which nothing is open any more.
    """

    def __init__(self, shape: tuple[int, int], overlap: int) -> None:
        self.certain = 0
        self._shape, self._rim = shape, max(1, overlap // 16)
        self._tiles: dict[Region, int] = {}
        self._open: list[Part] = []
        # Decided nuclei that open ones may overlap, and those that open ones may come before.
        self._near: list[Nucleus] = []
        self._held: list[Nucleus] = []

    def add(self, parts: Iterable[Part], tiles: Iterable[Region]) -> None:
        """Adds the nuclei of some tiles.

        Args:
            parts: Their nuclei.
            tiles: All of the tiles, also those without nuclei.
        """
        for tile in tiles:
            self._tiles.setdefault(tile, len(self._tiles))
        self._open += parts

    def settle(self, below: int | None = None) -> list[Nucleus]:
        """Decides which nuclei remain and which pixels are theirs, as far as the tiles to come cannot change it.

        Args:
            below: First row of the tiles that are still to come; None if there are none.

        Returns:
            The nuclei whose pixels and number are certain now, in the order of their labels, which goes on that of
            earlier calls. No two have pixels in common.
        """
        below = self._shape[0] if below is None else below
        candidates, pending = self._candidates(below)
        decided = [_Candidate(near.box, near.bits, 0, near.score, -1, ()) for near in self._near]
        every = decided + candidates
        pairs = self._conflicts(every)
        waits = np.concatenate([np.zeros(len(decided), bool), pending])
        _spread(waits, pairs)
        found = _take(every, pairs, waits, self._near)
        new = [nucleus for nucleus in found[len(decided) :] if nucleus is not None]
        open_parts = {id(part) for number in np.flatnonzero(waits) for part in every[number].parts}
        # In the order in which they came, by which equals are taken.
        self._open = [part for part in self._open if id(part) in open_parts]
        self.certain = min([below, *(int(part.box[0]) for part in self._open)])
        self._near = [nucleus for nucleus in [*self._near, *new] if nucleus.box[2] > self.certain]
        ordered = sorted([*self._held, *new], key=lambda nucleus: (nucleus.box.tolist(), nucleus.bits))
        count = sum(nucleus.box[0] < self.certain for nucleus in ordered)
        self._held = ordered[count:]
        return ordered[:count]

    def _candidates(self, below: int) -> tuple[list[_Candidate], np.ndarray]:
        """Returns the open nuclei in the order in which they are taken, and which reach into the tiles to come."""
        whole = [part for part in self._open if part.clearance >= self._rim]
        whole.sort(key=lambda part: (-part.clearance, -part.area))
        singles = [
            _Candidate(part.box, part.bits, part.area, part.score, self._tiles[part.tile], (part,)) for part in whole
        ]
        joined = []
        for group in group_pieces(self._pieces(below)):
            box, mask, score = fuse(group, self._shape)
            open_ones = any(part.box[2] > below for part in group)
            joined.append((open_ones, _Candidate(box, pack(mask), int(np.count_nonzero(mask)), score, -1, group)))
        # Where a piece may still come to others is not known: nothing that overlaps them is decided before they are.
        joined.sort(key=lambda one: (not one[0], -one[1].area))
        reach = [bool(part.box[2] > below) for part in whole] + [open_ones for open_ones, _ in joined]
        return singles + [candidate for _, candidate in joined], np.array(reach, bool)

    def _pieces(self, below: int) -> list[Part]:
        """Returns the pieces that no other tile sees with more clearance, and those that a tile to come may see so."""
        pieces = [part for part in self._open if part.clearance < self._rim]
        tiles = np.array(list(self._tiles))
        return [
            part
            for part in pieces
            if part.box[2] > below or box_clearances(part.box, tiles, self._shape).max() <= part.clearance
        ]

    def _conflicts(self, candidates: Sequence[_Candidate]) -> np.ndarray:
        """Returns the pairs of candidates of several tiles whose boxes overlap, int `[P, 2]`, the former first."""
        tiles = np.array([candidate.tile for candidate in candidates], np.int64)
        boxes = np.array([candidate.box for candidate in candidates], np.int64).reshape(-1, 4)
        regions = np.array(list(self._tiles), np.int64).reshape(-1, 4)
        shared = tiles < 0
        for tile in np.unique(tiles[tiles >= 0]):
            others = regions[meet(regions[tile], regions) & (np.arange(len(regions)) != tile)]
            own = np.flatnonzero(tiles == tile)
            shared[own] = meet(boxes[own, None], others).any(axis=1)
        numbers = np.flatnonzero(shared)
        pairs = numbers[overlapping(boxes[numbers])]
        return pairs[(tiles[pairs[:, 0]] != tiles[pairs[:, 1]]) | (tiles[pairs[:, 0]] < 0)]


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
    clearances = box_clearances(boxes, np.array(tile), shape).tolist()
    areas = np.bincount(labels.ravel(), minlength=len(inside) + 1)[1:].tolist()
    rows = zip(inside.tolist(), boxes, areas, scores.tolist(), clearances, strict=True)
    return [
        Part(box, pack(labels[y1:y2, x1:x2] == number), area, score, clearance, tile)
        for number, ((y1, x1, y2, x2), box, area, score, clearance) in enumerate(rows, start=1)
    ]


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
    seams = Seams(shape, overlap)
    seams.add(parts, tiles)
    return seams.settle()


def divide_rows(tiles: Sequence[Region]) -> Iterator[tuple[list[int], int | None]]:
    """Yields the numbers of the tiles of each row, and the first row of pixels of the next one; None after the last.

    Args:
        tiles: Tiles, ordered by their first row.
    """
    rows = [list(row) for _, row in itertools.groupby(range(len(tiles)), key=lambda number: tiles[number][0])]
    for row in rows:
        yield row, tiles[row[-1] + 1][0] if row[-1] + 1 < len(tiles) else None


def paint(labels: np.ndarray, corner: tuple[int, int], nuclei: Sequence[Nucleus], numbers: Iterable[int]) -> None:
    """Writes nuclei into a label image, or into a part of it.

    Args:
        labels: int32 `[H, W]`, changed in place; nuclei are cut off at its edges.
        corner: (y, x) of its first pixel in the image.
        nuclei: All nuclei of the image.
        numbers: Indices of those to write; the label is one more.
    """
    frame = (*corner, corner[0] + labels.shape[0], corner[1] + labels.shape[1])
    for number in numbers:
        nucleus = nuclei[number]
        box = nucleus.box.tolist()
        common = intersection(box, frame)
        if common is not None:
            labels[window(common, frame)][nucleus.mask[window(common, box)]] = number + 1


def _spread(waits: np.ndarray, pairs: np.ndarray) -> None:
    """Lets everything wait that overlaps, in the order of taking, something earlier that waits.

    Args:
        waits: bool `[N]`, changed in place.
        pairs: int `[P, 2]`.
    """
    while True:
        more = pairs[waits[pairs[:, 0]] & ~waits[pairs[:, 1]], 1]
        if not len(more):
            return
        waits[more] = True


def _take(
    candidates: Sequence[_Candidate], pairs: np.ndarray, waits: np.ndarray, decided: Sequence[Nucleus]
) -> list[Nucleus | None]:
    """Takes candidates in their order, each unless more than half of its pixels are taken; else what is left of it.

    Args:
        candidates: The candidates, of which the first were taken before.
        pairs: Those that may overlap, int `[P, 2]`, the former first.
        waits: bool `[N]`: candidates that are not taken yet.
        decided: Nuclei of the first candidates.

    Returns:
        The nucleus of each candidate; None where there is none.
    """
    pairs = pairs[np.lexsort((pairs[:, 0], pairs[:, 1]))]
    ends = np.searchsorted(pairs[:, 1], np.arange(len(candidates) + 1)).tolist()
    before = pairs[:, 0].tolist()
    found: list[Nucleus | None] = list(decided)
    for number in range(len(decided), len(candidates)):
        box, bits, area, score, _, _ = candidates[number]
        rivals = [found[other] for other in before[ends[number] : ends[number + 1]]]
        nucleus = Nucleus(box, bits, score)
        if waits[number]:
            nucleus = None
        elif any(rival is not None for rival in rivals):
            free = unpack(bits, box)
            corners = box.tolist()
            for rival in filter(None, rivals):
                other = rival.box.tolist()
                common = intersection(corners, other)
                free[window(common, corners)] &= ~rival.mask[window(common, other)]
            nucleus = Nucleus(box, pack(free), score) if 2 * np.count_nonzero(free) >= area else None
        found.append(nucleus)
    return found
