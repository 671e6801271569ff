"""Anchors of the region proposal network: reference boxes at the cells of every pyramid level.

The order is that of matterport's Mask_RCNN and of the RPN's output: pyramid level, row, column, then ratio
(Lin et al. 2017, "Feature Pyramid Networks", section 4.1: one scale per level, three ratios).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from mrcnn.config import Config

# Image shapes whose anchors are kept: those of training and of a detection in between. An image of 8000 x 8000 pixels
# has 16 million anchors.
_KEPT_SHAPES = 2


def generate_anchors(
    scales: float | Sequence[float],
    ratios: Sequence[float],
    shape: Sequence[int],
    feature_stride: int,
    anchor_stride: int,
) -> np.ndarray:
    """Generates the anchors of one feature map (Ren et al. 2015, section 3.1.1).

    Args:
        scales: Square roots of the anchors' areas, in pixels.
        ratios: Width over height.
        shape: (height, width) of the feature map in cells.
        feature_stride: Pixels between neighbouring cells.
        anchor_stride: Cells between neighbouring anchors; 1 puts anchors at every cell.

    Returns:
        float64 `[rows * columns * ratios * scales, 4]`, pixel boxes centred on the cells' top left corners, in
        the order row, column, ratio, scale. They may reach outside the image.

    Examples:
        >>> generate_anchors(8, [1], shape=(1, 2), feature_stride=4, anchor_stride=1).tolist()
        [[-4.0, -4.0, 4.0, 4.0], [-4.0, 0.0, 4.0, 8.0]]
    """
    anchors = np.empty((_count(scales, ratios, shape, anchor_stride), 4))
    _fill(anchors, scales, ratios, shape, feature_stride, anchor_stride)
    return anchors


def _count(scales: float | Sequence[float], ratios: Sequence[float], shape: Sequence[int], anchor_stride: int) -> int:
    """Counts the anchors of a feature map."""
    rows, columns = (-(-int(side) // anchor_stride) for side in shape)
    return rows * columns * len(ratios) * np.size(scales)


def _fill(
    anchors: np.ndarray,
    scales: float | Sequence[float],
    ratios: Sequence[float],
    shape: Sequence[int],
    feature_stride: int,
    anchor_stride: int,
    image_shape: tuple[int, int] | None = None,
) -> None:
    """Writes the anchors of a feature map, without intermediate arrays of their size.

    Args:
        anchors: `[rows * columns * ratios * scales, 4]` of any float dtype, to be written; edges are computed in
            float64.
        scales: Argument of `generate_anchors`.
        ratios: Argument of `generate_anchors`.
        shape: Argument of `generate_anchors`.
        feature_stride: Argument of `generate_anchors`.
        anchor_stride: Argument of `generate_anchors`.
        image_shape: (height, width) of the image by which the anchors are normalised as `boxes.normalize` does it; None
            leaves them in pixels.
    """
    scales = np.atleast_1d(np.asarray(scales, dtype=np.float64))
    roots = np.sqrt(np.asarray(ratios, dtype=np.float64))[:, None]
    half_heights, half_widths = (0.5 * sizes.ravel() for sizes in (scales / roots, scales * roots))
    rows = np.arange(0, shape[0], anchor_stride) * float(feature_stride)
    columns = np.arange(0, shape[1], anchor_stride) * float(feature_stride)
    shift, height, width = (0.0, 1.0, 1.0) if image_shape is None else (1.0, *(side - 1.0 for side in image_shape))
    grid = anchors.reshape(len(rows), len(columns), len(half_heights), 4)
    grid[..., 0] = ((rows[:, None] - half_heights) / height)[:, None]
    grid[..., 1] = ((columns[:, None] - half_widths) / width)[None]
    grid[..., 2] = ((rows[:, None] + half_heights - shift) / height)[:, None]
    grid[..., 3] = ((columns[:, None] + half_widths - shift) / width)[None]


def generate_pyramid_anchors(
    scales: Sequence[float],
    ratios: Sequence[float],
    feature_shapes: Sequence[Sequence[int]],
    feature_strides: Sequence[int],
    anchor_stride: int,
    image_shape: tuple[int, int] | None = None,
) -> np.ndarray:
    """Generates the anchors of all pyramid levels, one scale per level (Lin et al. 2017, section 4.1).

    Args:
        scales: One scale per level, in pixels.
        ratios: Width over height.
        feature_shapes: (height, width) of each level in cells.
        feature_strides: Pixels between neighbouring cells of each level.
        anchor_stride: Cells between neighbouring anchors; 1 puts anchors at every cell.
        image_shape: (height, width) of the image by which to normalise them; None for pixels.

    Returns:
        `[anchors, 4]`, level by level: float64 in pixels, or float32 normalised.
    """
    levels = list(zip(scales, feature_shapes, feature_strides, strict=True))
    counts = [_count(scale, ratios, shape, anchor_stride) for scale, shape, _ in levels]
    anchors = np.empty((sum(counts), 4), np.float64 if image_shape is None else np.float32)
    start = 0
    for count, (scale, shape, stride) in zip(counts, levels, strict=True):
        _fill(anchors[start : start + count], scale, ratios, shape, stride, anchor_stride, image_shape)
        start += count
    return anchors


def compute_backbone_shapes(config: Config, image_shape: Sequence[int]) -> np.ndarray:
    """Computes the sizes of the pyramid levels.

    Args:
        config: Uses BACKBONE_STRIDES, or COMPUTE_BACKBONE_SHAPE where a callable BACKBONE has one.
        image_shape: (height, width, ...) of the network's input in pixels.

    Returns:
        int `[levels, 2]`, (height, width) of each level in cells.
    """
    if callable(config.BACKBONE) and config.COMPUTE_BACKBONE_SHAPE is not None:
        return np.asarray(config.COMPUTE_BACKBONE_SHAPE(image_shape))
    height, width = int(image_shape[0]), int(image_shape[1])
    return np.array([(math.ceil(height / stride), math.ceil(width / stride)) for stride in config.BACKBONE_STRIDES])


def anchor_grid_shapes(config: Config, image_shape: Sequence[int]) -> list[tuple[int, int, int]]:
    """Computes the anchor grids of the pyramid levels.

    Args:
        config: Uses the RPN_ANCHOR_* settings and those of the level sizes.
        image_shape: (height, width, ...) of the network's input in pixels.

    Returns:
        (rows, columns, anchors per cell) of each level, in the order of the anchors.
    """
    step = config.RPN_ANCHOR_STRIDE
    return [
        (math.ceil(height / step), math.ceil(width / step), len(config.RPN_ANCHOR_RATIOS) * np.size(scale))
        for (height, width), scale in zip(
            compute_backbone_shapes(config, image_shape).tolist(), config.RPN_ANCHOR_SCALES, strict=True
        )
    ]


def pyramid_anchors(config: Config, image_shape: Sequence[int]) -> np.ndarray:
    """Returns all anchors of an image in pixels, for training.

    The rules of training compare IoUs for equality, which needs float64; detection takes `normalized_anchors`.

    Args:
        config: Uses the RPN_ANCHOR_* settings, BACKBONE_STRIDES and those of the level sizes.
        image_shape: (height, width, ...) of the network's input in pixels.

    Returns:
        float64 `[anchors, 4]`, read-only because it is cached.
    """
    return _cached_anchors(None, *_anchor_key(config, image_shape))


def normalized_anchors(config: Config, image_shape: Sequence[int], extent: Sequence[int] | None = None) -> np.ndarray:
    """Returns all anchors of an image in normalised coordinates, an input of the network.

    Args:
        config: Uses the RPN_ANCHOR_* settings, BACKBONE_STRIDES and those of the level sizes.
        image_shape: (height, width, ...) of the network's input in pixels.
        extent: (height, width) in pixels in which the anchors are normalised, where the rest of the input is padding;
            by default those of the input.

    Returns:
        float32 `[anchors, 4]`, read-only because it is cached. Anchors at cells beyond the extent are 0, so that
        nothing is detected there.
    """
    height, width = (int(side) for side in (image_shape if extent is None else extent)[:2])
    anchors = _cached_anchors((height, width), *_anchor_key(config, image_shape))
    if (height, width) == tuple(image_shape[:2]):
        return anchors
    centre_inside = (anchors[:, :2] + anchors[:, 2:] <= 2).all(axis=1, keepdims=True)
    return anchors * centre_inside.astype(np.float32)


def _anchor_key(config: Config, image_shape: Sequence[int]) -> tuple:
    """Returns the hashable arguments of `generate_pyramid_anchors` for an image."""
    return (
        _nested_tuple(config.RPN_ANCHOR_SCALES),
        _nested_tuple(config.RPN_ANCHOR_RATIOS),
        _nested_tuple(compute_backbone_shapes(config, image_shape)),
        _nested_tuple(config.BACKBONE_STRIDES),
        int(config.RPN_ANCHOR_STRIDE),
    )


def _nested_tuple(values: Sequence | np.ndarray) -> tuple:
    return tuple(_nested_tuple(v) if np.ndim(v) else v for v in values)


@lru_cache(maxsize=_KEPT_SHAPES)
def _cached_anchors(shape: tuple[int, int] | None, *key: tuple) -> np.ndarray:
    """Returns the anchors in pixels, or normalised by an image's (height, width)."""
    anchors = generate_pyramid_anchors(*key, image_shape=shape)
    anchors.flags.writeable = False
    return anchors
