"""Painting of overlapping instances into one label image: a pixel belongs to the first instance that has it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from nucleus.datasets.layouts.base import DatasetError
from nucleus.images.reading import read_shape
from trainkit.reading import reading

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ListedInstances:
    """The instances of one image in a file that lists them, a `nucleus.datasets.layouts.base.Truth`.

    Label k + 1 is the k-th instance of the list.

    Attributes:
        path: Path of the file.
        codes: (name for messages, code) of each instance.
        shape: (height, width) of the image in the file; None if missing.
        decode: Function from a code and the image's (height, width) to int [P] indices into the flattened image; it
            raises ValueError for a code that it cannot read.
    """

    path: Path
    codes: tuple[tuple[str, Any], ...]
    shape: tuple[int, int] | None
    decode: Callable[[Any, tuple[int, int]], np.ndarray]

    def files(self) -> list[Path]:
        """Returns the file."""
        return [self.path]

    def read(self, image: Path) -> np.ndarray:
        """Paints the instances into a label image; see `Truth.read`."""
        shape = read_shape(image)
        if self.shape not in (None, shape):
            raise DatasetError(f"{self.path}: height and width are {self.shape}, the image {image} has {shape}")
        return paint_in_order(shape, self._pixels(shape), image)

    def _pixels(self, shape: tuple[int, int]) -> Iterator[tuple[str, np.ndarray]]:
        for name, code in self.codes:
            source = f"{self.path}, {name}"
            with reading(source, error=DatasetError):
                pixels = self.decode(code, shape)
            yield source, pixels


def paint_in_order(shape: tuple[int, int], instances: Iterable[tuple[object, np.ndarray]], image: object) -> np.ndarray:
    """Paints instances into one label image.

    A pixel in several instances belongs to the first of them. Instances without a pixel, or with none left, are left
    out. Warnings report all three.

    Args:
        shape: (height, width) of the image.
        instances: (name for the warnings, int [P] indices into the flattened image) of each instance, in the order of
            the labels.
        image: The image, for the warnings.

    Returns:
        int32 [H, W], labels 1...N.
    """
    labels = np.zeros(shape[0] * shape[1], np.int32)
    contested, number = 0, 0
    for name, pixels in instances:
        free = pixels[labels[pixels] == 0]
        contested += pixels.size - free.size
        if free.size:
            number += 1
            labels[free] = number
        elif pixels.size:
            _log.warning("%s: dropped, all of its pixels belong to earlier masks", name)
        else:
            _log.warning("%s: dropped, the mask has no pixel", name)
    if contested:
        _log.warning("%s: masks overlap in %d pixels; the first keeps them", image, contested)
    return labels.reshape(shape)


def named_image(source: str, key: str, given: Any, folders: Iterable[Path]) -> tuple[Path, PurePosixPath]:
    """Finds the image that an annotation file names.

    Args:
        source: Place of the name, for errors.
        key: What the place calls the name, for errors.
        given: The name, relative to one of the folders; backslashes may stand for slashes.
        folders: Folders to look in, in order.

    Returns:
        The image file, and its relative name.

    Raises:
        DatasetError: The name is no relative one, or there is no such file.
    """
    names = [PurePosixPath(given), PurePosixPath(given.replace("\\", "/"))] if isinstance(given, str) and given else []
    if not names or any(name.is_absolute() or ".." in name.parts for name in names):
        raise DatasetError(f"{source}: expected a relative {key}; found {given!r}")
    folders = list(dict.fromkeys(folders))
    for name in names:
        for folder in folders:
            # A name too long for the system, or with a null character, is an error to Path.is_file.
            if os.path.isfile(folder / name):
                return folder / name, name
    raise DatasetError(f"{source}: there is no {given} in {', '.join(map(str, folders))}")


def is_coordinate(value: Any) -> bool:
    """Returns True for a number that is a coordinate: finite, and exact in float64."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53


def run_pixels(starts: np.ndarray, lengths: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Returns the pixels of runs that go down the columns, left to right.

    Args:
        starts: int [R], first pixel of each run in that order, counted from 0.
        lengths: int [R], number of pixels of each run.
        shape: (height, width) of the image.

    Returns:
        int64 [P] indices into the image flattened row by row.
    """
    before = np.cumsum(lengths) - lengths
    down = np.repeat(starts - before, lengths) + np.arange(lengths.sum())
    x, y = np.divmod(down, shape[0])
    return y * shape[1] + x
