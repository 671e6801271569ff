"""Resizing, padding and cropping of images and masks to the network's input size."""

from __future__ import annotations

import random
from collections.abc import Sequence

import cv2
import numpy as np
import skimage.transform

Padding = list[tuple[int, int]]
Window = tuple[int, int, int, int]


def resize(
    image: np.ndarray,
    output_shape: Sequence[int],
    order: int = 1,
    mode: str = "constant",
    cval: float = 0,
    clip: bool = True,
    preserve_range: bool = False,
    anti_aliasing: bool = False,
    anti_aliasing_sigma: float | Sequence[float] | None = None,
) -> np.ndarray:
    """Resizes an image by `skimage.transform.resize` with the lineage's defaults.

    Args:
        image: `[H, W]` or `[H, W, C]`.
        output_shape: (height, width) or more.
        order: Order of the spline, 0 (nearest) to 5.
        mode: Padding mode of scikit-image for points outside the image.
        cval: Value outside the image in the mode "constant".
        clip: True keeps the result within the input's range.
        preserve_range: False maps integer images to 0..1.
        anti_aliasing: True smooths before shrinking.
        anti_aliasing_sigma: Standard deviation of the smoothing in pixels; None derives it from the factor.

    Returns:
        The resized image, float.
    """
    return skimage.transform.resize(
        image,
        output_shape,
        order=order,
        mode=mode,
        cval=cval,
        clip=clip,
        preserve_range=preserve_range,
        anti_aliasing=anti_aliasing,
        anti_aliasing_sigma=anti_aliasing_sigma,
    )


def resize_image(
    image: np.ndarray,
    min_dim: int | None = None,
    max_dim: int | None = None,
    min_scale: float | None = None,
    mode: str = "square",
    *,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, Window, float, Padding, tuple[int, int, int, int] | None]:
    """Scales an image without changing its aspect ratio, then pads or crops it.

    Interpolation is bilinear with half-pixel centres, without anti-aliasing, and fades to zero at the border
    (`skimage.transform.resize(order=1, mode="constant")` to within one grey level), as in the lineage.

    Args:
        image: `[H, W, C]`, any real dtype.
        min_dim: Minimum length of the short side in pixels, reached by enlarging; None or 0 for none.
        max_dim: Maximum length of the long side in the mode "square" in pixels, and the side of its result.
        min_scale: Minimum enlargement, whatever `min_dim` asks for; None or 0 for none.
        mode: "none" leaves the image as it is. "square" pads with zeros to `max_dim` x `max_dim`. "pad64" pads
            with zeros to multiples of 64. "crop" cuts a random `min_dim` x `min_dim` window, for training.
        rng: Random generator of the window of "crop"; None uses Python's global `random`, like the lineage.

    Returns:
        image: `[h, w, C]`, the dtype of the input; the input itself if nothing changed.
        window: (y1, x1, y2, x2), the pixels of `image` that are not padding, y2 and x2 exclusive.
        scale: Factor by which the image was resized.
        padding: [(top, bottom), (left, right), (0, 0)] in pixels.
        crop: (y, x, height, width) in the scaled image for the mode "crop", else None.

    Raises:
        ValueError: The mode is unknown, or lacks the dimension it needs.

    Examples:
        >>> resized, window, scale, padding, crop = resize_image(np.ones((40, 60, 3)), min_dim=64, max_dim=128)
        >>> resized.shape, window, scale, padding
        ((128, 128, 3), (32, 16, 96, 112), 1.6, [(32, 32), (16, 16), (0, 0)])
    """
    height, width = image.shape[:2]
    no_padding = [(0, 0), (0, 0), (0, 0)]
    if mode == "none":
        return image, (0, 0, height, width), 1, no_padding, None
    if mode not in ("square", "pad64", "crop"):
        raise ValueError(f"mode must be 'none', 'square', 'pad64' or 'crop'. Received: {mode!r}")
    if mode == "square" and not max_dim:
        raise ValueError(f"The mode 'square' needs max_dim. Received: {max_dim!r}")
    if mode == "crop" and not min_dim:
        raise ValueError(f"The mode 'crop' needs min_dim. Received: {min_dim!r}")
    if mode == "pad64" and min_dim and min_dim % 64:
        raise ValueError(f"The mode 'pad64' needs a min_dim that is a multiple of 64. Received: {min_dim!r}")

    scale = choose_scale(height, width, min_dim, max_dim if mode == "square" else None, min_scale)
    if scale != 1:
        image = _resize_bilinear(image, round(height * scale), round(width * scale))
    height, width = image.shape[:2]

    if mode == "crop":
        y = _random_offset(height - min_dim, rng)
        x = _random_offset(width - min_dim, rng)
        image = image[y : y + min_dim, x : x + min_dim]
        return image, (0, 0, min_dim, min_dim), scale, no_padding, (y, x, min_dim, min_dim)

    target = (max_dim, max_dim) if mode == "square" else (-(-height // 64) * 64, -(-width // 64) * 64)
    top, left = (target[0] - height) // 2, (target[1] - width) // 2
    padding = [(top, target[0] - height - top), (left, target[1] - width - left), (0, 0)]
    return _pad(image, padding), (top, left, top + height, left + width), scale, padding, None


def resize_mask(
    mask: np.ndarray,
    scale: float,
    padding: Sequence[tuple[int, int]],
    crop: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Scales, pads or crops a mask like `resize_image` its image.

    Each pixel takes the value of the nearest one, centres at half pixels as for the image. (The lineage's
    `scipy.ndimage.zoom` aligned the corners instead, which shifted masks by up to half a pixel.)

    Args:
        mask: `[H, W, N]` masks, or a label image `[H, W]`.
        scale: Factor by which the image was resized.
        padding: [(top, bottom), (left, right), (0, 0)] in pixels.
        crop: (y, x, height, width) in the scaled image, which replaces the padding; None for no crop.

    Returns:
        `[h, w, N]` or `[h, w]`, the dtype of the input; the input itself if nothing changed.
    """
    height, width = mask.shape[:2]
    y, x, out_height, out_width = crop or (0, 0, round(height * scale), round(width * scale))
    rows = _nearest(height, round(height * scale))[y : y + out_height]
    columns = _nearest(width, round(width * scale))[x : x + out_width]
    if scale != 1:
        mask = mask[rows][:, columns]
    elif crop is not None:
        mask = mask[y : y + out_height, x : x + out_width]
    return mask if crop is not None else _pad(mask, padding)


def choose_scale(height: int, width: int, min_dim: int | None, max_dim: int | None, min_scale: float | None) -> float:
    """Returns the enlargement that `min_dim` and `min_scale` ask for, reduced to what `max_dim` allows.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        min_dim: Minimum length of the short side in pixels; None or 0 for none.
        max_dim: Maximum length of the long side in pixels; None for none.
        min_scale: Minimum enlargement; None or 0 for none.
    """
    scale = max(1, min_dim / min(height, width)) if min_dim else 1
    if min_scale:
        scale = max(scale, min_scale)
    longest = max(height, width)
    if max_dim and round(longest * scale) > max_dim:
        scale = max_dim / longest
    return scale


def _resize_bilinear(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes bilinearly with half-pixel centres and zeros outside; keeps dtype and number of dimensions.

    Integers are truncated rather than rounded, like the lineage's, whose weights were trained so.
    """
    exact = np.float32 if image.dtype.itemsize < 4 or image.dtype == np.float32 else np.float64
    resized = cv2.resize(image.astype(exact, copy=False), (width, height), interpolation=cv2.INTER_LINEAR)
    resized = resized.reshape(height, width, *image.shape[2:])  # cv2 drops a channel axis of length 1.
    # OpenCV repeats the border. Outside an axis's first and last centre that multiplies by one where zeros
    # outside would multiply by what is left of the weight, so only those rows and columns need a correction.
    for axis, size_in in ((0, image.shape[0]), (1, image.shape[1])):
        lines = np.moveaxis(resized, axis, 0)
        size_out = lines.shape[0]
        positions = (np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5
        inside = 1.0 + np.minimum(positions, 0.0) + np.minimum(size_in - 1 - positions, 0.0)
        for line in np.flatnonzero(inside < 1.0):
            lines[line] *= inside[line]
    return resized.astype(image.dtype, copy=False)


def _nearest(size_in: int, size_out: int) -> np.ndarray:
    """Returns, for every output pixel, the index of the input pixel that holds its centre."""
    return np.minimum((np.arange(size_out) + 0.5) * size_in / max(size_out, 1), size_in - 1).astype(np.intp)


def _random_offset(largest: int, rng: np.random.Generator | None) -> int:
    """Draws an integer of 0..largest, both included."""
    return random.randint(0, largest) if rng is None else int(rng.integers(largest + 1))


def _pad(array: np.ndarray, padding: Sequence[tuple[int, int]]) -> np.ndarray:
    """Adds zeros around the first two axes."""
    rows, columns = padding[:2]
    if not any((*rows, *columns)):
        return array
    return np.pad(array, (rows, columns, *[(0, 0)] * (array.ndim - 2)))
