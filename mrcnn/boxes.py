"""Box arithmetic: areas, IoU, encoding and decoding of deltas, clipping, normalisation.

Functions take NumPy arrays or tensors of the Keras backend and return the same kind, so that data preparation and
network share one formula. Boxes are `[..., 4]` as (y1, x1, y2, x2), y2 and x2 exclusive, in pixels or in normalised
coordinates unless a docstring names one of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any  # NumPy array or tensor of the Keras backend.

# Largest logarithm of an enlargement (16 to 1000 pixels); keeps the boxes of an untrained network finite.
MAX_LOG_SCALE = float(np.log(1000 / 16))


def _namespace(*arrays: Array) -> Any:
    """Returns `numpy` when every argument is NumPy or plain Python, `keras.ops` otherwise."""
    plain = (np.ndarray, np.generic, int, float, list, tuple)
    if all(isinstance(array, plain) for array in arrays):
        return np
    # Exported networks are run without Keras.
    from keras import ops

    return ops


def split(boxes: Array) -> tuple[Array, Array, Array, Array]:
    """Returns y1, x1, y2, x2 of `[..., 4]` boxes, each `[...]`."""
    return boxes[..., 0], boxes[..., 1], boxes[..., 2], boxes[..., 3]


def area(boxes: Array) -> Array:
    """Returns the areas `[...]` of `[..., 4]` boxes."""
    y1, x1, y2, x2 = split(boxes)
    return (y2 - y1) * (x2 - x1)


def iou_matrix(boxes1: Array, boxes2: Array) -> Array:
    """Computes the intersection over union (IoU) of every pair of boxes.

    Args:
        boxes1: `[..., N, 4]`.
        boxes2: `[..., M, 4]`, with the same leading dimensions.

    Returns:
        `[..., N, M]` in 0..1. A pair of boxes that are both empty has IoU 0.

    Examples:
        >>> iou_matrix(np.array([[0.0, 0, 4, 4]]), np.array([[0.0, 0, 4, 4], [0, 2, 4, 6], [8, 8, 9, 9]])).round(2)
        array([[1.  , 0.33, 0.  ]])
    """
    xp = _namespace(boxes1, boxes2)
    y1, x1, y2, x2 = (part[..., :, None] for part in split(boxes1))
    other_y1, other_x1, other_y2, other_x2 = (part[..., None, :] for part in split(boxes2))
    height = xp.maximum(xp.minimum(y2, other_y2) - xp.maximum(y1, other_y1), 0)
    width = xp.maximum(xp.minimum(x2, other_x2) - xp.maximum(x1, other_x1), 0)
    intersection = height * width
    union = area(boxes1)[..., :, None] + area(boxes2)[..., None, :] - intersection
    return xp.where(union > 0, intersection / xp.where(union > 0, union, xp.ones_like(union)), xp.zeros_like(union))


def encode(boxes: Array, target_boxes: Array) -> Array:
    """Computes the deltas that turn `boxes` into `target_boxes` (Girshick et al. 2014, appendix C).

    Args:
        boxes: `[..., 4]` with positive height and width.
        target_boxes: `[..., 4]`.

    Returns:
        `[..., 4]` as (dy, dx, log dh, log dw): shifts of the centre in units of the box, logarithms of the
        size ratios.
    """
    xp = _namespace(boxes, target_boxes)
    y1, x1, y2, x2 = split(boxes)
    target_y1, target_x1, target_y2, target_x2 = split(target_boxes)
    height, width = y2 - y1, x2 - x1
    target_height, target_width = target_y2 - target_y1, target_x2 - target_x1
    dy = ((target_y1 + 0.5 * target_height) - (y1 + 0.5 * height)) / height
    dx = ((target_x1 + 0.5 * target_width) - (x1 + 0.5 * width)) / width
    return xp.stack([dy, dx, xp.log(target_height / height), xp.log(target_width / width)], axis=-1)


def decode(boxes: Array, deltas: Array) -> Array:
    """Moves and scales boxes by deltas; the inverse of `encode` (Girshick et al. 2014, appendix C).

    Args:
        boxes: `[..., 4]`.
        deltas: `[..., 4]` as (dy, dx, log dh, log dw).

    Returns:
        The new boxes `[..., 4]`; no side grows by more than a factor of 62.5.

    Examples:
        >>> decode(np.array([[0.0, 0, 10, 20]]), np.array([[0.5, 0, 0, np.log(2)]])).round(2)
        array([[  5., -10.,  15.,  30.]])
    """
    xp = _namespace(boxes, deltas)
    y1, x1, y2, x2 = split(boxes)
    height, width = y2 - y1, x2 - x1
    dy, dx, log_dh, log_dw = split(deltas)
    center_y = y1 + 0.5 * height + dy * height
    center_x = x1 + 0.5 * width + dx * width
    height = height * xp.exp(xp.minimum(log_dh, MAX_LOG_SCALE))
    width = width * xp.exp(xp.minimum(log_dw, MAX_LOG_SCALE))
    y1 = center_y - 0.5 * height
    x1 = center_x - 0.5 * width
    return xp.stack([y1, x1, y1 + height, x1 + width], axis=-1)


def clip(boxes: Array, window: Array) -> Array:
    """Clips boxes to a window.

    Args:
        boxes: `[..., 4]`.
        window: `[..., 4]` that broadcasts against `boxes`, (y1, x1, y2, x2).

    Returns:
        The clipped boxes `[..., 4]`; one outside the window becomes empty.
    """
    xp = _namespace(boxes, window)
    y1, x1, y2, x2 = split(boxes)
    low_y, low_x, high_y, high_x = split(window)
    clipped = (
        xp.maximum(xp.minimum(y1, high_y), low_y),
        xp.maximum(xp.minimum(x1, high_x), low_x),
        xp.maximum(xp.minimum(y2, high_y), low_y),
        xp.maximum(xp.minimum(x2, high_x), low_x),
    )
    return xp.stack(clipped, axis=-1)


def normalize(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Turns pixel boxes into normalised ones, whose y2 and x2 are inclusive.

    Args:
        boxes: `[..., 4]` in pixels.
        shape: (height, width) of the image in pixels.

    Returns:
        float32 `[..., 4]`; 0 and 1 are the centres of the first and last pixel.

    Examples:
        >>> normalize(np.array([[0, 0, 101, 201], [50, 0, 101, 101]]), (101, 201)).tolist()
        [[0.0, 0.0, 1.0, 1.0], [0.5, 0.0, 1.0, 0.5]]
    """
    scale, shift = _pixel_scale(shape)
    return np.divide(np.asarray(boxes) - shift, scale).astype(np.float32)


def denormalize(boxes: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Turns normalised boxes into pixel boxes; the inverse of `normalize`.

    Args:
        boxes: `[..., 4]`, normalised.
        shape: (height, width) of the image in pixels.

    Returns:
        int32 `[..., 4]` in pixels, rounded.
    """
    scale, shift = _pixel_scale(shape)
    return np.around(np.multiply(boxes, scale) + shift).astype(np.int32)


def _pixel_scale(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the factor and the summand that turn normalised boxes into pixels."""
    height, width = shape
    return np.array([height - 1, width - 1, height - 1, width - 1]), np.array([0, 0, 1, 1])
