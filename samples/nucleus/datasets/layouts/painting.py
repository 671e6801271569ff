"""Painting of overlapping instances into one label image: a pixel belongs to the first instance that has it."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from nucleus.datasets.layouts.base import DatasetError
from nucleus.images.reading import read_shape

_log = logging.getLogger(__name__)


def image_shape(image: Path, recorded: tuple[int, int] | None, source: Path) -> tuple[int, int]:
    """Returns an image's (height, width) and checks it against the file of its instances.

    Args:
        image: Path of the image.
        recorded: (height, width) in the file of its instances, or None if missing there.
        source: Path of the file of its instances.

    Raises:
        DatasetError: The two shapes differ.
        nucleus.images.reading.ImageFileError: The image cannot be read.
    """
    shape = read_shape(image)
    if recorded not in (None, shape):
        raise DatasetError(f"{source}: height and width are {recorded}, the image {image} has {shape}")
    return shape


def paint_in_order(shape: tuple[int, int], instances: Iterable[tuple[object, np.ndarray]], image: Path) -> np.ndarray:
    """Paints instances into one label image.

    A pixel in several instances belongs to the first of them. Instances without a pixel, or with none left, are left
    out. Warnings report all three.

    Args:
        shape: (height, width) of the image.
        instances: (name for the warnings, int [P] indices into the flattened image) of each instance, in the order of
            the labels.
        image: Path of the image, for the warnings.

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
