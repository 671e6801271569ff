"""RoIAlign by bilinear crop-and-resize over the feature pyramid (He et al. 2017, section 3; Lin et al. 2017, eq. 1).

Two kernels with one contract: TensorFlow's `crop_and_resize`, and one in `keras.ops` that gathers the four
neighbours of every sampling point, for JAX and PyTorch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

from mrcnn import boxes as box_ops

FINEST_LEVEL = 2
# A RoI of this side in a 224-pixel ImageNet picture belongs to level 4.
CANONICAL_SIDE = 224.0
CANONICAL_LEVEL = 4
# Share of a map's length, above the rounding error of a sampling point's position.
_ROUNDING = 1e-6


_portable: ContextVar[bool] = ContextVar("portable", default=False)


@contextmanager
def portable_kernel() -> Iterator[None]:
    """Builds graphs, inside the block, of operations that other programs have too, on every backend."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


def _kernel(kernel: str | None) -> str:
    if kernel is None:
        kernel = "tensorflow" if keras.backend.backend() == "tensorflow" and not _portable.get() else "ops"
    return kernel


def _end_inside(boxes: Any) -> Any:
    """Moves edges at the last pixel inwards by an invisible amount, lest rounding put sampling points outside."""
    return ops.where(ops.abs(boxes - 1) < _ROUNDING, 1 - _ROUNDING, boxes)


def roi_levels(rois: Any, image_area: Any, level_count: int = 4) -> Any:
    """Assigns RoIs to pyramid levels by their size (Lin et al. 2017, eq. 1).

    Args:
        rois: float `[B, R, 4]`, normalised.
        image_area: Height times width of the network's input in square pixels; scalar or tensor.
        level_count: Number of pyramid levels, P2 first.

    Returns:
        int32 `[B, R]`, 0 for P2.
    """
    side = ops.sqrt(ops.maximum(box_ops.area(rois), 1e-12)) * ops.sqrt(ops.cast(image_area, "float32"))
    level = ops.round(ops.log2(side / CANONICAL_SIDE)) + CANONICAL_LEVEL - FINEST_LEVEL
    # Clipped as integers: a diverged network's NaN also needs a level.
    return ops.clip(ops.cast(level, "int32"), 0, level_count - 1)


def pyramid_roi_align(
    feature_maps: Sequence[Any],
    rois: Any,
    image_area: Any,
    pool_size: int,
    kernel: str | None = None,
    samples: int = 1,
    image_shape: tuple[Any, Any] | None = None,
    share: Any = None,
) -> Any:
    """Pools every RoI from the pyramid level that fits its size (He et al. 2017, section 3, RoIAlign).

    A cell is sampled at one point as in the lineage, whose outermost points lie on the RoI's edges, or the mean of
    several regularly placed points inside it is taken, as in the paper.

    The lineage lays the centres of an image's first and last pixels on those of a map's first and last cells, so that
    equal nuclei at the top and at the bottom are read from places up to a cell apart. With `image_shape` a map's cell
    covers as many pixels as its stride wherever it lies, and every point is the middle of its part of the RoI.

    Args:
        feature_maps: P2, P3, … each `[B, H, W, C]`.
        rois: float `[B, R, 4]`, normalised.
        image_area: Height times width of the network's input in square pixels.
        pool_size: Side P of the pooled features in cells.
        kernel: "tensorflow" or "ops"; by default the faster one of the backend.
        samples: Sampling points along each side of a cell: 1 as in the lineage; 2 for the four of the paper.
        image_shape: (height, width) in pixels of the network's input, to align pixels and cells; None for the lineage's
            coordinates.
        share: float `[B, 2]` in 0..1, the share of height and width of the input in which RoIs are normalised, where
            the rest is padding; None for all of it. With `image_shape`, points at its edge read half a cell beyond it.

    Returns:
        `[B, R, P, P, C]` in the dtype of the feature maps.
    """
    # A diverged network proposes boxes of NaN: its loss is to show that, not a failing kernel.
    rois = ops.where(ops.isfinite(rois), rois, ops.zeros_like(rois))
    levels = roi_levels(rois, image_area, len(feature_maps))
    points = pool_size * samples
    if image_shape is not None:
        rois = _on_cells(rois, levels, image_shape, feature_maps, points, share)
        feature_maps = [_bordered(_bordered(each, 1), 2) for each in feature_maps]
    elif share is not None:
        rois = _in_whole_maps(rois, levels, share, feature_maps)
    if image_shape is None and samples > 1:
        # Points lie in the middle of equal parts of the RoI, not on its edges.
        top_left, bottom_right = rois[..., :2], rois[..., 2:]
        margin = (bottom_right - top_left) / (2 * points)
        rois = ops.concatenate([top_left + margin, bottom_right - margin], axis=-1)
    rois = _end_inside(rois)
    pool = _pool_tensorflow if _kernel(kernel) == "tensorflow" else _pool_ops
    pooled = pool(feature_maps, rois, levels, points)
    if samples == 1:
        return pooled
    batch, count = ops.shape(rois)[:2]
    cells = (batch, count, pool_size, samples, pool_size, samples, pooled.shape[-1])
    return ops.mean(ops.reshape(pooled, cells), axis=(3, 5))


def _in_whole_maps(rois, levels, share, feature_maps):
    """Normalises RoIs `[B, R, 4]` of a share of their maps in all of the maps; unchanged where the share is 1."""
    sides = ops.stack([ops.stack([ops.cast(side, "float32") for side in ops.shape(f)[1:3]]) for f in feature_maps])
    factors = (share[:, None] * sides[None] - 1) / ops.maximum(sides - 1, 1)
    own = ops.take_along_axis(factors, levels[:, :, None], axis=1)
    return rois * ops.concatenate([own, own], axis=-1)


def _bordered(features, axis):
    """Repeats the outermost cells along an axis: points up to half a cell beyond their centres read them."""
    last = ops.shape(features)[axis] - 1
    first, final = (ops.take(features, [index], axis=axis) for index in (0, last))
    return ops.concatenate([first, features, final], axis=axis)


def _on_cells(rois, levels, image_shape, feature_maps, points, share):
    """Normalises the first and last of `points` in each RoI, in its map with one more cell on every side."""
    image = ops.cast(ops.stack(image_shape), "float32")
    extent = image if share is None else (image * share)[:, None]
    sides = ops.stack([ops.cast(ops.stack(ops.shape(each)[1:3]), "float32") for each in feature_maps])
    sides = ops.take(sides, levels, axis=0)
    # From pixels' centres to their edges: normalised boxes end with the centre of their last pixel.
    start, end = rois[..., :2] * (extent - 1), rois[..., 2:] * (extent - 1) + 1
    margin = (end - start) / (2 * points)
    centres = [edge * sides / image - 0.5 for edge in (start + margin, end - margin)]
    return ops.concatenate([(centre + 1) / (sides + 1) for centre in centres], axis=-1)


def _pool_tensorflow(feature_maps, rois, levels, pool_size):
    import tensorflow as tf

    batch, count = tf.shape(rois)[0], tf.shape(rois)[1]
    flat_rois = tf.reshape(rois, [-1, 4])
    flat_levels = tf.reshape(levels, [-1])
    pooled, positions = [], []
    for level, features in enumerate(feature_maps):
        here = tf.cast(tf.where(flat_levels == level)[:, 0], tf.int32)
        crops = tf.image.crop_and_resize(
            tf.cast(features, tf.float32), tf.gather(flat_rois, here), here // count, [pool_size, pool_size]
        )
        pooled.append(tf.cast(crops, features.dtype))
        positions.append(here)
    # Back to the order of the RoIs.
    order = tf.math.invert_permutation(tf.concat(positions, axis=0))
    crops = tf.gather(tf.concat(pooled, axis=0), order)
    channels = feature_maps[0].shape[-1]
    crops = tf.reshape(crops, [batch, count, pool_size, pool_size, channels])
    return tf.ensure_shape(crops, [rois.shape[0], rois.shape[1], pool_size, pool_size, channels])


def _pool_ops(feature_maps, rois, levels, pool_size):
    batch, count = ops.shape(rois)[:2]
    channels = feature_maps[0].shape[-1]
    sides = ops.stack([ops.cast(ops.stack(ops.shape(features)[1:3]), "int32") for features in feature_maps])
    areas = sides[:, 0] * sides[:, 1]
    starts = ops.cumsum(areas) - areas
    flat = ops.concatenate([ops.reshape(f, [batch, -1, channels]) for f in feature_maps], axis=1)
    flat = ops.reshape(flat, [-1, channels])
    level = ops.reshape(levels, [-1])
    image_start = ops.arange(batch, dtype="int32") * ops.sum(areas)
    image_start = ops.reshape(ops.broadcast_to(image_start[:, None], (batch, count)), [-1])
    crops = _sample(
        flat,
        image_start + ops.take(starts, level),
        ops.take(sides[:, 0], level),
        ops.take(sides[:, 1], level),
        ops.reshape(rois, [-1, 4]),
        (pool_size, pool_size),
    )
    return ops.reshape(crops, [batch, count, pool_size, pool_size, channels])


def crop_and_resize(
    images: Any, boxes: Any, image_indices: Any, size: tuple[int, int], kernel: str | None = None
) -> Any:
    """Cuts boxes out of images and resizes them bilinearly; points outside an image read 0.

    Args:
        images: `[N, H, W, C]`, any real dtype.
        boxes: float `[M, 4]`, normalised: 0 and 1 are the centres of the first and last pixel.
        image_indices: int32 `[M]`, index of the image of each box.
        size: (height, width) of the crops.
        kernel: "tensorflow" or "ops"; by default the faster one of the backend.

    Returns:
        float32 `[M, height, width, C]`.
    """
    boxes = _end_inside(boxes)
    if _kernel(kernel) == "tensorflow":
        import tensorflow as tf

        return tf.image.crop_and_resize(tf.cast(images, tf.float32), boxes, image_indices, size)
    height, width, channels = images.shape[1:]
    count = boxes.shape[0]
    flat = ops.reshape(ops.cast(images, "float32"), [-1, channels])
    start = ops.cast(image_indices, "int32") * (height * width)
    heights = ops.full([count], height, dtype="int32")
    widths = ops.full([count], width, dtype="int32")
    return _sample(flat, start, heights, widths, boxes, size)


def _sample(flat, start, heights, widths, boxes, size):
    """Samples M boxes bilinearly, each inside its own map of a flat store of maps.

    Args:
        flat: `[S, C]`, the pixels of all maps, row by row.
        start: int32 `[M]`, index in `flat` of the first pixel of each box's map.
        heights: int32 `[M]`, rows of each box's map.
        widths: int32 `[M]`, columns of each box's map.
        boxes: float `[M, 4]`, normalised in its map.
        size: (rows, columns) of the samples.

    Returns:
        `[M, rows, columns, C]` in the dtype of `flat`; zeros for points outside the map.
    """
    y1, x1, y2, x2 = box_ops.split(boxes)
    row_low, row_high, row_weight, row_inside = _neighbours(y1, y2, heights, size[0])
    col_low, col_high, col_weight, col_inside = _neighbours(x1, x2, widths, size[1])
    dtype = flat.dtype

    def read(rows, cols):
        index = start[:, None, None] + rows[:, :, None] * widths[:, None, None] + cols[:, None, :]
        return ops.take(flat, index, axis=0)

    col_weight = ops.cast(col_weight, dtype)[:, None, :, None]
    row_weight = ops.cast(row_weight, dtype)[:, :, None, None]
    top = read(row_low, col_low) * (1 - col_weight) + read(row_low, col_high) * col_weight
    bottom = read(row_high, col_low) * (1 - col_weight) + read(row_high, col_high) * col_weight
    inside = ops.logical_and(row_inside[:, :, None], col_inside[:, None, :])[..., None]
    return (top * (1 - row_weight) + bottom * row_weight) * ops.cast(inside, dtype)


def _neighbours(low, high, lengths, count):
    """Returns lower and upper neighbour, upper weight and validity of `count` points on an axis, each `[M, count]`."""
    last = ops.cast(lengths - 1, low.dtype)[:, None]
    steps = ops.arange(count, dtype=low.dtype)[None, :]
    if count > 1:
        position = low[:, None] * last + steps * ((high - low)[:, None] * last / (count - 1))
    else:
        position = 0.5 * (low + high)[:, None] * last
    inside = ops.logical_and(position >= 0, position <= last)
    position = ops.clip(position, ops.zeros_like(last), last)
    floor = ops.floor(position)
    lower = ops.cast(floor, "int32")
    upper = ops.minimum(lower + 1, lengths[:, None] - 1)
    return lower, upper, position - floor, inside
