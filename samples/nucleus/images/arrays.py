"""Arrays as images, by the reading rules of files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from nucleus.images.decoding import NO_CHOICE, ImageFileError, Planes
from nucleus.images.decoding.array import ArrayImage
from nucleus.images.reading import to_rgb


@runtime_checkable
class Array(Protocol):
    """An array of NumPy, or one that becomes such an array, as those of dask and zarr do."""

    shape: tuple[int, ...]
    dtype: Any

    def __array__(self, *args: Any, **options: Any) -> np.ndarray: ...


def as_images(images: Array | Sequence[Array], axes: str | None = None, planes: Planes = NO_CHOICE) -> list[np.ndarray]:
    """Converts one image or many to 8-bit RGB.

    Args:
        images: One array, or a list or tuple of arrays, of any real dtype, of NumPy, dask, zarr or another library
            whose arrays can be converted (`__array__`). uint8 is kept as it is; every other dtype is scaled as
            `nucleus.images.reading` describes for files. An array of four dimensions without `axes` holds several
            images.
        axes: Meaning of the dimensions of every array, a letter each: T frames, Z planes, C channels, Y rows, X
            columns, S samples of colour. By default `[H, W]` is grey, `[H, W, 1]` is grey, `[H, W, 3]` is RGB and uint8
            `[H, W, 4]` is RGBA, whose alpha is dropped; `[H, W, C]` has channels where one of them is chosen.
        planes: Choice of channel, plane and frame; with "all" every plane or frame is an image.

    Returns:
        uint8 `[H, W, 3]` RGB of each image.

    Raises:
        ValueError: An array has no pixels, complex or non-numeric values, or dimensions of an unknown meaning; or it
            holds several channels, planes or frames of which none is chosen.

    Examples:
        >>> [image.shape for image in as_images(np.zeros((20, 30), np.uint16))]
        [(20, 30, 3)]
        >>> len(as_images([np.zeros((20, 30)), np.zeros((40, 50, 3), np.uint8)]))
        2
        >>> len(as_images(np.zeros((5, 2, 20, 30)), axes="ZCYX", planes=Planes(channel=2, plane="all")))
        5
    """
    one = isinstance(images, Array) and (len(images.shape) != 4 or axes is not None)
    if not one and not isinstance(images, Array | Sequence):
        raise ValueError(f"Expected an array or a list of arrays. Received: {type(images).__name__}")
    found = []
    for image in [images] if one else images:
        found += _read(image if isinstance(image, Array) else np.asarray(image), axes, planes)
    return found


def are_lazy(images: Array | Sequence[Array]) -> bool:
    """Returns True for an array of dask, or for a list or tuple of nothing else.

    Args:
        images: One array, or several.
    """
    if "dask.array" not in sys.modules:
        return False
    several = images if isinstance(images, list | tuple) else [images]
    return len(several) > 0 and all(isinstance(image, sys.modules["dask.array"].Array) for image in several)


def open_array(array: Array, axes: str | None = None, planes: Planes = NO_CHOICE) -> ArrayImage:
    """Returns an array as an image of which planes and channels are read.

    Args:
        array: The array; see `as_images`.
        axes: Meaning of its dimensions; see `as_images`.
        planes: Choice of channel, plane and frame.

    Raises:
        ValueError: The array is no image; see `as_images`.
    """
    shape, dtype = tuple(array.shape), np.dtype(array.dtype)
    real = dtype.kind == "b" or (np.issubdtype(dtype, np.number) and dtype.kind != "c")
    if not real or 0 in shape:
        raise ValueError(f"Expected an image of real numbers with pixels. Received: {dtype} {shape}")
    axes = _default_axes(shape, dtype, planes) if axes is None else axes
    try:
        return ArrayImage([array], axes)
    except ImageFileError as error:
        raise ValueError(f"An array: {error}") from None


def _read(array: Array, axes: str | None, planes: Planes) -> list[np.ndarray]:
    image = open_array(array, axes, planes)
    try:
        choices = [planes.at(place) for place in planes.places("", image.frames, image.planes)]
        found = [to_rgb(_native(image.read(choice).visible())) for choice in choices]
    except ImageFileError as error:
        raise ValueError(f"An array {tuple(array.shape)}: {error}") from None
    return [np.ascontiguousarray(each) for each in found]


def _native(pixels: np.ndarray) -> np.ndarray:
    """Returns pixels in the byte order of the machine."""
    return pixels if pixels.dtype.isnative else pixels.astype(pixels.dtype.newbyteorder("="))


def _default_axes(shape: tuple[int, ...], dtype: np.dtype, planes: Planes) -> str:
    """Returns the axes of an array for which none are stated."""
    if len(shape) == 2:
        return "YX"
    if len(shape) == 3 and planes.channel is not None and shape[2] <= min(shape[:2]):
        return "YXC"
    if len(shape) == 3 and (shape[2] == 3 or (shape[2] == 4 and dtype == np.uint8)):
        return "YXS"
    if len(shape) == 3 and shape[2] == 1:
        return "YXC"
    received = f"Received: {dtype} {shape}"
    if len(shape) == 3 and shape[2] <= 4:
        raise ValueError(
            f"An array [H, W, {shape[2]}] of {dtype} may have channels that are no colours: choose one, or three for "
            f"red, green and blue (channel=1, or channel=(1, 2, 3)). {received}"
        )
    if len(shape) == 3 and shape[0] <= 4:
        raise ValueError(
            "Expected channels last, [H, W, C]. This array seems to have them first, [C, H, W], or to be a stack: "
            f'state its axes and choose, such as axes="CYX", channel=1, or axes="ZYX", plane=1. {received}'
        )
    raise ValueError(
        "Expected an image [H, W], [H, W, 1], [H, W, 3] or uint8 [H, W, 4], or a list of such images; or the meaning "
        f'of the dimensions and a choice, such as axes="ZYX", plane=1 or axes="YXC", channel=2. {received}'
    )
