"""A wrapper that shows a model large images in overlapping tiles, so that memory does not grow with the image.

The rule, by which no nucleus is lost, cut or counted twice at a seam, is stated in `nucleus.models.seams`. A tile in
which the model reaches a limit of nuclei (`nucleus.models.limits`) is divided again.

Images are preprocessed before they are divided, so that all tiles show one picture. The memory needed is that of the
model for one tile (or for an image predicted whole), of the image and of its label image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from tqdm import tqdm

from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.limits import limits_of, report_limit, watch_limits
from nucleus.models.parts import Part, Region
from nucleus.models.seams import find_parts, merge
from nucleus.models.wrapper import Wrapper

# Where it takes no more tiles, steps from tile to tile are multiples of this, and a tile's side leaves the same rest as
# the image's: a network, which pads both alike, then lays the cells of its feature maps on the same pixels in every
# tile and in the whole image. 64 is twice the stride of U-Nets, whose padding is half on either side, and that of Mask
# R-CNN.
_CELLS = 64
# Elsewhere steps are multiples of this if they can be, so that cells lie alike in all tiles but the last.
_STEPS = 32

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
        small = [index for index, image in enumerate(images) if len(self.regions(image.shape[:2])) == 1]
        found: dict[int, Prediction] = {}
        if small:
            with watch_limits() as reached:
                predictions = self.model._predict([images[index] for index in small])
            found = dict(zip(small, predictions, strict=True))
            for limit in reached:
                index = small[limit.index]
                if self._smaller((0, 0, *images[index].shape[:2])):
                    found.pop(index, None)
                else:
                    report_limit(limit._replace(index=index))
        for index, image in enumerate(images):
            if index not in found:
                with limits_of([index]):
                    found[index] = self._predict_in_tiles(image)
        return [found[index] for index in range(len(images))]

    def describe(self) -> dict[str, Any]:
        """Adds the tiles' size; see `NucleusModel.describe`."""
        return {**super().describe(), "side": self.side, "overlap": self.overlap}

    def regions(self, shape: tuple[int, int]) -> list[Region]:
        """Returns the tiles of an image; the whole image where it is no larger than two.

        Args:
            shape: (height, width) of the image.
        """
        whole = (0, 0, *shape)
        return [whole] if shape[0] * shape[1] <= 2 * self.side**2 else divide(whole, self.side, self.overlap)

    def _smaller(self, region: Region) -> list[Region]:
        """Returns the tiles of a region in which the model reached a limit; none where they would be as much work."""
        y1, x1, y2, x2 = region
        length = max(y2 - y1, x2 - x1)
        return [] if length < 3 * self.overlap else divide(region, -(-(length + self.overlap) // 2), self.overlap)

    def _predict_in_tiles(self, image: np.ndarray) -> Prediction:
        shape = image.shape[:2]
        regions = self.regions(shape)
        if len(regions) == 1:
            regions = self._smaller(regions[0])
        model = self.model.calibrate(image)
        seen: list[Region] = []
        parts: list[Part] = []
        for region in tqdm(regions, desc="tiles", unit="tile", leave=False, disable=not _show_progress.get()):
            for tile, prediction in self.look(model, image, region):
                seen.append(tile)
                parts += find_parts(prediction, tile, shape)
        return merge(parts, seen, shape, self.overlap)

    def look(self, model: NucleusModel, image: np.ndarray, region: Region) -> Iterator[tuple[Region, Prediction]]:
        """Predicts a region of an image, divided where the model reaches a limit in it.

        Args:
            model: Result of `calibrate` of the wrapped model.
            image: Preprocessed image, uint8 `[H, W, 3]` RGB.
            region: Tile of the image.

        Yields:
            The region, or the tiles that it was divided into, each with its prediction.
        """
        y1, x1, y2, x2 = region
        with watch_limits() as reached:
            (prediction,) = model._predict([np.ascontiguousarray(image[y1:y2, x1:x2])])
        smaller = self._smaller(region) if reached else []
        for tile in smaller:
            yield from self.look(model, image, tile)
        if not smaller:
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
        [(0, 0, 100, 122), (0, 64, 100, 186), (0, 128, 100, 250)]
    """
    y1, x1, y2, x2 = region
    rows, columns = _divide_axis(y1, y2, side, overlap), _divide_axis(x1, x2, side, overlap)
    return [(top, left, bottom, right) for top, bottom in rows for left, right in columns]


def _divide_axis(first: int, last: int, side: int, overlap: int) -> list[tuple[int, int]]:
    """Divides pixels `first` to `last` (exclusive) along an axis; returns the (start, stop) of each part."""
    length = last - first
    if length <= side:
        return [(first, last)]
    fewest = _ceil(length - overlap, side - overlap)
    size, step = _on_cells(length, side, overlap, fewest) or _of_steps(length, side, overlap, fewest)
    starts = [min(first + index * step, last - size) for index in range(_ceil(length - size, step) + 1)]
    return [(start, start + size) for start in starts]


def _on_cells(length: int, side: int, overlap: int, count: int) -> tuple[int, int] | None:
    """Returns the least side, and the step, of `count` tiles that lie on the cells of the whole; None if none do."""
    least = overlap + _CELLS
    for size in range(least + (length - least) % _CELLS, side + 1, _CELLS):
        step = (size - overlap) // _CELLS * _CELLS
        if step * (count - 1) >= length - size:
            return size, step
    return None


def _of_steps(length: int, side: int, overlap: int, count: int) -> tuple[int, int]:
    """Returns side and step of at most `count` tiles that overlap by just as many pixels as they must."""
    step = _ceil(length - overlap, count)
    aligned = _STEPS * _ceil(step, _STEPS)
    step = aligned if aligned + overlap <= side else step
    return step + overlap, step


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)
