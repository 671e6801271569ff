"""Nuclei as boxes with small masks: as one tile sees them, and merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
        return unpack(self.bits, self.box)


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
        return unpack(self.bits, self.box)


def pack(mask: np.ndarray) -> bytes:
    """Returns a mask as bytes of eight pixels each.

    Args:
        mask: bool `[H, W]`.
    """
    return np.packbits(mask).tobytes()


def unpack(bits: bytes, box: Sequence[int]) -> np.ndarray:
    """Returns the mask that `pack` packed.

    Args:
        bits: The bytes.
        box: (y1, x1, y2, x2) of the mask.
    """
    height, width = int(box[2] - box[0]), int(box[3] - box[1])
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=height * width).reshape(height, width).view(bool)


def box_clearances(boxes: np.ndarray, tiles: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns the least distance of boxes to the edges of tiles that lie inside the image; negative outside a tile.

    Args:
        boxes: int `[..., 4]`.
        tiles: int `[..., 4]`.
        shape: (height, width) of the image.
    """
    distances = (boxes - tiles) * np.array([1, 1, -1, -1])
    return np.where(tiles == np.array([0, 0, *shape]), np.inf, distances).min(axis=-1)


def intersection(one: Sequence[int], other: Sequence[int]) -> tuple[int, int, int, int] | None:
    """Returns what two boxes both cover; None if that is nothing.

    Args:
        one: (y1, x1, y2, x2).
        other: (y1, x1, y2, x2).
    """
    y1, x1, y2, x2 = max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])
    return (y1, x1, y2, x2) if y1 < y2 and x1 < x2 else None


def window(box: Sequence[int], around: Sequence[int]) -> tuple[slice, slice]:
    """Returns the slices of a box inside a box around it.

    Args:
        box: (y1, x1, y2, x2).
        around: (y1, x1, y2, x2).
    """
    y, x = around[:2]
    return slice(box[0] - y, box[2] - y), slice(box[1] - x, box[3] - x)


def meet(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns which boxes overlap others, bool `[...]`.

    Args:
        boxes: int `[..., 4]`.
        others: int `[..., 4]`.
    """
    before = boxes[..., :2] < others[..., 2:]
    return (before & (others[..., :2] < boxes[..., 2:])).all(axis=-1)
