"""Arrays as images, by the reading rules of files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nucleus.images.reading import to_rgb


def as_images(images: np.ndarray | Sequence[np.ndarray]) -> list[np.ndarray]:
    """Converts one image or many to 8-bit RGB.

    Args:
        images: One array, or a list or tuple of arrays: `[H, W]` grey, or `[H, W, C]` with one channel (grey), two (red
            and green), three (RGB) or four (RGBA, alpha dropped), of any real dtype. uint8 is kept as it is; every
            other dtype is scaled as `nucleus.images.reading` describes for files. An array of four dimensions holds
            several images.

    Returns:
        uint8 `[H, W, 3]` RGB of each image.

    Raises:
        ValueError: An array has no pixels, complex or non-numeric values, or another number of dimensions or channels.

    Examples:
        >>> [image.shape for image in as_images(np.zeros((20, 30), np.uint16))]
        [(20, 30, 3)]
        >>> len(as_images([np.zeros((20, 30)), np.zeros((40, 50, 3), np.uint8)]))
        2
    """
    if isinstance(images, np.ndarray) and images.ndim != 4:
        return [_as_image(images)]
    return [_as_image(np.asarray(image)) for image in images]


def _as_image(pixels: np.ndarray) -> np.ndarray:
    real = pixels.dtype == bool or (np.issubdtype(pixels.dtype, np.number) and not np.iscomplexobj(pixels))
    if not real or pixels.size == 0 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] <= 4)):
        raise ValueError(
            "Expected an image [H, W] or [H, W, C] with 1 to 4 channels, or a list of such images. "
            f"Received: {pixels.dtype} {pixels.shape}"
        )
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3]
    return np.ascontiguousarray(to_rgb(pixels))
