"""Pieces of nuclei that several tiles see: which belong together, and what they are together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from nucleus.models.parts import Part, Region, intersection, meet, window

# IoU above which two pieces, in what both tiles see, are one nucleus.
_SAME = 0.5
# Least side in pixels of the cells by which overlapping boxes are looked up.
_LEAST_CELL = 8


def group_pieces(pieces: Sequence[Part]) -> list[list[Part]]:
    """Groups the pieces of one nucleus each.

    Args:
        pieces: Pieces of any nuclei.
    """
    if not pieces:
        return []
    pairs = overlapping(np.array([piece.box for piece in pieces], np.int64).reshape(-1, 4))
    same = [
        (one, other)
        for one, other in pairs.tolist()
        if pieces[one].tile != pieces[other].tile and _agree(pieces[one], pieces[other])
    ]
    first, second = np.array(same, np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(same)), (first, second)), shape=(len(pieces), len(pieces)))
    groups: dict[int, list[Part]] = {}
    for piece, group in zip(pieces, connected_components(links, directed=False)[1].tolist(), strict=True):
        groups.setdefault(group, []).append(piece)
    return list(groups.values())


def _agree(one: Part, other: Part) -> bool:
    """Returns whether two tiles see one nucleus, judged by the pixels that lie in both tiles."""
    common = intersection(one.tile, other.tile)
    masks = np.zeros((2, common[2] - common[0], common[3] - common[1]), bool)
    for mask, part in zip(masks, (one, other), strict=True):
        corners = part.box.tolist()
        box = intersection(corners, common)
        mask[window(box, common)] = part.mask[window(box, corners)]
    return bool(np.count_nonzero(masks.all(axis=0)) > _SAME * np.count_nonzero(masks.any(axis=0)))


def fuse(group: Sequence[Part], shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, float]:
    """Returns box, mask and score of a nucleus whose pieces several tiles see.

    Args:
        group: Its pieces.
        shape: (height, width) of the image.
    """
    boxes = np.array([piece.box for piece in group])
    box = np.concatenate([boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)])
    mask = np.zeros(box[2:] - box[:2], bool)
    tiles = list(dict.fromkeys(piece.tile for piece in group))
    for number, tile in enumerate(tiles):
        common = intersection(box.tolist(), tile)
        seen = np.zeros((common[2] - common[0], common[3] - common[1]), bool)
        for piece in group:
            if piece.tile == tile:
                seen[window(piece.box, common)] |= piece.mask
        best = _sees_best(common, number, tiles, shape)
        mask[window(common, box)][best] = seen[best]
    weights = [piece.area for piece in group]
    return box, mask, float(np.average([piece.score for piece in group], weights=weights))


def _sees_best(box: Region, number: int, tiles: Sequence[Region], shape: tuple[int, int]) -> np.ndarray:
    """Returns the pixels of a box in a tile that no other tile sees with more clearance; of equals the first one sees.

    Args:
        box: (y1, x1, y2, x2) inside the tile.
        number: Index of the tile.
        tiles: The tiles.
        shape: (height, width) of the image.
    """
    own = _pixel_clearances(box, tiles[number], shape)
    best = np.ones(own.shape, bool)
    for place, other in enumerate(tiles):
        common = intersection(box, other)
        if place != number and common is not None:
            at, theirs = window(common, box), _pixel_clearances(common, other, shape)
            best[at] &= own[at] > theirs if place < number else own[at] >= theirs
    return best


def _pixel_clearances(box: Sequence[int], tile: Region, shape: tuple[int, int]) -> np.ndarray:
    """Returns the distance of every pixel of a box in a tile to the tile's edges inside the image, 1 at the edge."""
    along = []
    for axis in (0, 1):
        place = np.arange(box[axis], box[axis + 2], dtype=np.float32)
        before = np.where(tile[axis] == 0, np.inf, place - tile[axis] + 1)
        after = np.where(tile[axis + 2] == shape[axis], np.inf, tile[axis + 2] - place)
        along.append(np.minimum(before, after))
    return np.minimum(along[0][:, None], along[1])


def overlapping(boxes: np.ndarray) -> np.ndarray:
    """Returns all pairs of boxes that overlap, int `[P, 2]`, each once with the smaller index first.

    Boxes are looked up by the cells of a grid that they meet, so that the work grows with their number and with that of
    the pairs, and not with the square of the first.

    Args:
        boxes: int64 `[N, 4]`.
    """
    if len(boxes) < 2:
        return np.zeros((0, 2), np.int64)
    cell = max(_LEAST_CELL, 2 * int(np.median(boxes[:, 2:] - boxes[:, :2])))
    low, high = boxes[:, :2] // cell, (boxes[:, 2:] - 1) // cell
    rows, columns = (high - low + 1).T
    owner, place = _expand(rows * columns)
    y, x = low[owner, 0] + place // columns[owner], low[owner, 1] + place % columns[owner]
    key = y * (int(x.max()) + 1) + x
    order = np.lexsort((owner, key))
    key, owner, y, x = key[order], owner[order], y[order], x[order]
    at, place = _expand(np.searchsorted(key, key, side="right") - np.arange(len(key)) - 1)
    one, other = owner[at], owner[at + 1 + place]
    corner = np.maximum(low[one], low[other])
    # A pair counts in the cell with the first corner of what both boxes cover, and in no other.
    once = (corner[:, 0] == y[at]) & (corner[:, 1] == x[at]) & meet(boxes[one], boxes[other])
    return np.stack([one[once], other[once]], axis=1)


def _expand(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns, for 0..counts[k] - 1 of every k one after the other, k and the number."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
