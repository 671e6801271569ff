"""Prediction of images that are computed or read when they are needed: label images and scores as arrays of dask.

Nothing is computed until it is asked for. An image that a model shows whole is one task, and its nuclei are those of
`model.predict`. A larger one is predicted as `nucleus.models.large.predict_large` does it: one task finds the scale,
others look at the tiles, one settles which nuclei remain where tiles overlap (`nucleus.models.seams`), and each block
of the label image is painted by itself. So labels are unique in the whole image, and whoever computes one block has all
tiles predicted.
"""

from __future__ import annotations

import math
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import pairwise
from operator import getitem, itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nucleus.images.arrays import as_images, open_array
from nucleus.images.decoding import NO_CHOICE, Planes
from nucleus.images.lazy import LazyImage, open_lazy
from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.large import TileLooking, find_scale, settle_all
from nucleus.models.limits import Limit, UnknownSize, log_limits, warn_of_limits, watch_limits
from nucleus.models.parts import Nucleus, Part, Region
from nucleus.models.portable import PortableModel
from nucleus.models.scale import AutoScale, FixedScale
from nucleus.models.seams import paint
from nucleus.models.settings import SizeSettings
from nucleus.models.tiles import Tiles

if TYPE_CHECKING:
    import dask.array

# Side in pixels of the blocks of a label image whose image is a file.
_BLOCK = 1024
_ARRAY = "An array"
# A model is not made for several threads.
_one_at_a_time = threading.Lock()


def predict_lazy(model: NucleusModel, image: dask.array.Array | LazyImage) -> Prediction:
    """Returns the nuclei of one image as arrays of dask, which are computed when they are asked for.

    `model.predict` of an array of dask does the same, with its choice of axes, channel, plane and frame. See the
    module's docstring for what is computed. Samples of more than 8 bits, STRETCH and a classical method's threshold
    follow a subsample of an image that is predicted in tiles, see `nucleus.models.large.predict_large`; with CLAHE,
    without TILE_SIZE and for an ensemble the image is predicted as one task.

    Args:
        model: The model.
        image: An array of dask, `[H, W]` grey, `[H, W, 3]` RGB or uint8 `[H, W, 4]` RGBA; or an open file, which tasks
            open again by its path and read at its level.

    Returns:
        Labels, int32 `[H, W]` in the array's blocks, and scores, float32 `[N]` of unknown length, both as arrays of
        dask. The scale is NaN, since it is not known yet.

    Raises:
        ValueError: The array is no image, its blocks are results that a cluster holds (write them to a file first),
            DIAMETER_UM is set and the size of a pixel is not known, as with an array (`model.predict` takes it), or the
            model cannot be sent to other processes.

    Examples:
        >>> import dask.array
        >>> from nucleus import load_model
        >>> pixels = np.zeros((600, 800), np.uint8)
        >>> pixels[200:230, 370:420] = pixels[500:540, 100:150] = 200
        >>> model = load_model("classical/otsu", settings={"TILE_SIZE": 256, "TILE_OVERLAP": 64})
        >>> labels, scores = predict_lazy(model, dask.array.from_array(pixels, chunks=400))
        >>> labels.shape, labels.chunksize, labels.dtype  # nothing is computed yet
        ((600, 800), (400, 400), dtype('int32'))
        >>> int(labels.max().compute()), len(scores.compute())
        (2, 2)
    """
    lazy = isinstance(image, LazyImage)
    model = model.at_pixel_size(image.pixel_size if lazy else None)
    source = _File(image) if lazy else _Computed(image, None, NO_CHOICE)
    return _predict(model, PortableModel(model), source)


def predict_arrays(
    model: NucleusModel, images: Sequence[dask.array.Array], axes: str | None, planes: Planes
) -> list[Prediction]:
    """Returns the nuclei of arrays of dask; see `predict_lazy`.

    Args:
        model: The model.
        images: The arrays; one of four dimensions without `axes` holds several images.
        axes: Meaning of the dimensions of every array, see `nucleus.images.arrays.as_images`.
        planes: Choice of channel, plane and frame; with "all" every plane or frame is an image.

    Raises:
        ValueError: See `predict_lazy`.
    """
    portable = PortableModel(model)
    found = []
    for image in images:
        for one in image if len(image.shape) == 4 and axes is None else [image]:
            opened = open_array(one, axes, planes)
            for place in planes.places("", opened.frames, opened.planes):
                found.append(_predict(model, portable, _Computed(one, axes, planes.at(place))))
    return found


class _Opener(ABC):
    """An image that a task opens when it needs it, once in a process.

    Args:
        name: Name of the image in messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._opened: dict[str, LazyImage] = {}
        self._looking: dict[tuple[str, float], TileLooking] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_opened": {}, "_looking": {}}

    def image(self) -> LazyImage:
        """Returns the image with its regions."""
        if not self._opened:
            self._opened[""] = self.open()
        return self._opened[""]

    def looking(self, model: PortableModel, scale: float, skip_glass: bool) -> TileLooking:
        """Returns the prediction of the image's tiles."""
        key = model.key, scale
        if key not in self._looking:
            self._looking[key] = TileLooking.at(model.get(), self.image(), scale, skip_glass)
        return self._looking[key]

    @abstractmethod
    def open(self) -> LazyImage:
        """Opens the image."""

    @abstractmethod
    def blocks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the heights and the widths of the blocks of the label image."""

    @abstractmethod
    def predict(self, model: NucleusModel) -> Prediction:
        """Returns the nuclei of the image, which the model is shown whole."""


class _Computed(_Opener):
    """An array of dask as an image.

    Args:
        array: The array.
        axes: Meaning of its dimensions; None for the default.
        planes: Choice of channel, plane and frame.
    """

    def __init__(self, array: dask.array.Array, axes: str | None, planes: Planes) -> None:
        super().__init__(_ARRAY)
        self._array, self._axes, self._planes = array, axes, planes
        if "distributed" in sys.modules and sys.modules["distributed"].futures_of(array):
            raise ValueError(
                "The blocks of this array are results that a cluster holds (persist): tasks that read its regions "
                "cannot reach them. Write it to a file first, such as a Zarr, or predict what it was made from."
            )

    def open(self) -> LazyImage:
        """Opens the array as an image; see `_Opener.open`."""
        return LazyImage(open_array(_InPlace(self._array), self._axes, self._planes), Path(_ARRAY), self._planes)

    def blocks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns the array's own blocks; see `_Opener.blocks`."""
        axes = open_array(self._array, self._axes, self._planes).axes
        return tuple(self._array.chunks[axes.index(axis)] for axis in "YX")

    def predict(self, model: NucleusModel) -> Prediction:
        """Predicts as `model.predict` does; see `_Opener.predict`."""
        pixels = np.asarray(_InPlace(self._array))
        (image,) = as_images([pixels], self._axes, self._planes)
        return _whole(model, image, self.name)


class _File(_Opener):
    """A file as an image, which every process opens by its path.

    Args:
        image: The open file.
    """

    def __init__(self, image: LazyImage) -> None:
        super().__init__(str(image.path))
        self._path, self._planes, self._level = image.path.absolute(), image.planes, image.level
        self._shape = image.shape[:2]

    def open(self) -> LazyImage:
        """Opens the file; see `_Opener.open`."""
        return open_lazy(self._path, self._planes, self._level)

    def blocks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Returns blocks of 1024 x 1024 pixels; see `_Opener.blocks`."""
        sides = ([min(_BLOCK, length - start) for start in range(0, length, _BLOCK)] for length in self._shape)
        return tuple(map(tuple, sides))

    def predict(self, model: NucleusModel) -> Prediction:
        """Predicts the whole level; see `_Opener.predict`."""
        image = self.image()
        return _whole(model, image.region(0, image.shape[0], 0, image.shape[1]), self.name)


class _InPlace:
    """An array of dask whose parts are computed where they are read, without other threads or workers."""

    def __init__(self, array: dask.array.Array) -> None:
        self.shape, self.dtype, self._array = array.shape, array.dtype, array

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self._array[index].compute(scheduler="synchronous"))

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        return np.asarray(self[...], *args, **options)


class _Tiling(NamedTuple):
    """Tiles of an image.

    Attributes:
        scale: Factor of height and width at which the model is shown the image.
        limit: Size of nuclei that the model does not know; None if it knows them.
        tiles: Number of tiles.
        overlap: Their overlap in pixels.
    """

    scale: float
    limit: UnknownSize | None
    tiles: int
    overlap: int


# Number of a tile, what it was divided into, its nuclei, and limits that the model reached.
_Seen = tuple[int, list[Region], list[Part], list[Limit | UnknownSize]]


def _predict(model: NucleusModel, portable: PortableModel, source: _Opener) -> Prediction:
    """Returns the prediction of an image as arrays of dask."""
    import dask.array

    (heights, widths), shape = source.blocks(), source.open().shape[:2]

    def task(function: Callable[..., Any], *arguments: Any) -> Any:
        return dask.delayed(function, pure=False)(*arguments)

    # Each is sent once to a process.
    handle, image = (dask.delayed(each, pure=False, traverse=False) for each in (portable, source))
    if _is_whole(model, shape):
        found = task(_predict_whole, handle, image)
        labels, scores = task(getitem, found, 0), task(getitem, found, 1)
        blocks = [[task(_cut, labels, box) for box in row] for row in _boxes(heights, widths)]
    else:
        config = model.config
        plan = task(_plan, handle, image, config.SKIP_GLASS)
        count = math.ceil(shape[0] * shape[1] / config.TILE_SIZE**2)
        seen = [task(_look, handle, image, plan, config.SKIP_GLASS, first, count) for first in range(count)]
        nuclei = task(_settle, plan, seen, shape, source.name)
        scores = task(_scores, nuclei)
        blocks = [[task(_paint, nuclei, box) for box in row] for row in _boxes(heights, widths)]
    arrays = [
        [dask.array.from_delayed(block, (height, width), np.int32) for block, width in zip(row, widths, strict=True)]
        for row, height in zip(blocks, heights, strict=True)
    ]
    unknown = dask.array.from_delayed(scores, (np.nan,), np.float32)
    return Prediction(dask.array.block(arrays), unknown).at_scale(math.nan, None)


def _is_whole(model: NucleusModel, shape: tuple[int, int]) -> bool:
    """Returns True for an image that is one task."""
    config = model.config
    if not isinstance(config, SizeSettings) or not config.TILE_SIZE or model.needs_whole_images:
        return True
    tiled = model.scaled if isinstance(model, FixedScale) else model
    if isinstance(tiled, AutoScale):
        return shape[0] * shape[1] <= 2 * config.TILE_SIZE**2
    return not isinstance(tiled, Tiles) or len(tiled.regions(shape)) == 1


def _boxes(heights: Sequence[int], widths: Sequence[int]) -> list[list[Region]]:
    """Returns the places of blocks, (y1, x1, y2, x2) in pixels, row by row."""
    rows, columns = (np.concatenate([[0], np.cumsum(sides)]).tolist() for sides in (heights, widths))
    return [[(y1, x1, y2, x2) for x1, x2 in pairwise(columns)] for y1, y2 in pairwise(rows)]


def _predict_whole(portable: PortableModel, source: _Opener) -> Prediction:
    with _one_at_a_time:
        return source.predict(portable.get())


def _whole(model: NucleusModel, image: np.ndarray, name: str) -> Prediction:
    with warn_of_limits(name):
        return model.predict(image)[0]


def _cut(labels: np.ndarray, box: Region) -> np.ndarray:
    y1, x1, y2, x2 = box
    return labels[y1:y2, x1:x2]


def _plan(portable: PortableModel, source: _Opener, skip_glass: bool) -> _Tiling:
    with _one_at_a_time:
        scale, limit = find_scale(portable.get(), source.image())
        looking = source.looking(portable, scale, skip_glass)
        return _Tiling(scale, limit, looking.count, looking.overlap)


def _look(
    portable: PortableModel, source: _Opener, plan: _Tiling, skip_glass: bool, first: int, step: int
) -> list[_Seen]:
    """Returns the nuclei of every `step`-th tile from the tile `first` on."""
    seen = []
    for number in range(first, plan.tiles, step):
        with _one_at_a_time, watch_limits() as reached:
            seen.append((number, *source.looking(portable, plan.scale, skip_glass).look(number), reached))
    return seen


def _settle(plan: _Tiling, seen: Sequence[Sequence[_Seen]], shape: tuple[int, int], name: str) -> list[Nucleus]:
    tiles = sorted((tile for some in seen for tile in some), key=itemgetter(0))
    limits = [limit for *_, reached in tiles for limit in reached]
    log_limits(limits if plan.limit is None else [plan.limit, *limits], [name])
    regions = [region for _, some, *_ in tiles for region in some]
    return settle_all([part for _, _, parts, _ in tiles for part in parts], regions, shape, plan.overlap)


def _scores(nuclei: Sequence[Nucleus]) -> np.ndarray:
    return np.array([nucleus.score for nucleus in nuclei], np.float32)


def _paint(nuclei: Sequence[Nucleus], box: Region) -> np.ndarray:
    y1, x1, y2, x2 = box
    labels = np.zeros((y2 - y1, x2 - x1), np.int32)
    paint(labels, (y1, x1), nuclei, range(len(nuclei)))
    return labels
