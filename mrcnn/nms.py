"""Greedy non-maximum suppression with static shapes.

Two kernels share one contract: TensorFlow's own (a C++ loop, fast on CPUs), and one in `keras.ops` that compares tiles
of boxes, for JAX and PyTorch.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from mrcnn import boxes as box_ops
from mrcnn.ordering import top_k

TILE = 256
NEVER = -1e30  # Score of boxes that must not be selected.


def non_max_suppression(
    boxes: Any, scores: Any, max_output: int, iou_threshold: float, valid: Any = None, kernel: str | None = None
) -> tuple[Any, Any]:
    """Selects boxes by descending score, leaving out those that overlap a selected one too much.

    Args:
        boxes: float32 `[B, N, 4]`.
        scores: float32 `[B, N]`; of equal scores the earlier box wins.
        max_output: Maximum number of boxes to select per image.
        iou_threshold: IoU with a selected box above which a box is suppressed.
        valid: bool `[B, N]`, True for boxes that may be selected; by default all.
        kernel: "tensorflow" or "ops"; by default the faster one of the backend.

    Returns:
        Indices int32 `[B, max_output]` by descending score, and bool `[B, max_output]`, True where an index is that of
        a selected box; the other indices are 0.
    """
    if valid is not None:
        scores = ops.where(valid, scores, ops.full_like(scores, NEVER))
    if kernel is None:
        kernel = "tensorflow" if keras.backend.backend() == "tensorflow" else "ops"
    select = _select_tensorflow if kernel == "tensorflow" else _select_ops
    return select(boxes, scores, max_output, iou_threshold)


def _select_tensorflow(boxes, scores, max_output, iou_threshold):
    import tensorflow as tf

    def select(image):
        result = tf.raw_ops.NonMaxSuppressionV4(
            boxes=image[0],
            scores=image[1],
            max_output_size=max_output,
            iou_threshold=iou_threshold,
            score_threshold=NEVER / 2,
            pad_to_max_output_size=True,
        )
        return result.selected_indices, result.valid_outputs

    if boxes.shape[0] == 1:
        # Without a loop; exported networks have one image.
        indices, count = (result[None] for result in select((boxes[0], scores[0])))
        indices.set_shape([1, max_output])
    else:
        indices, count = tf.map_fn(
            select,
            (boxes, scores),
            fn_output_signature=(tf.TensorSpec([max_output], tf.int32), tf.TensorSpec([], tf.int32)),
        )
    return indices, tf.range(max_output)[None, :] < count[:, None]


def _select_ops(boxes, scores, max_output, iou_threshold):
    count = boxes.shape[1]
    sorted_scores, order = top_k(scores, count)
    sorted_boxes = ops.take_along_axis(boxes, order[:, :, None], axis=1)
    kept = _suppress_sorted(sorted_boxes, sorted_scores > NEVER / 2, iou_threshold)
    # The first `max_output` kept ones: their ranks are unique, so top_k finds them in order.
    rank = ops.where(kept, count - ops.arange(count, dtype="int32")[None, :], ops.zeros_like(order))
    if count < max_output:
        rank = ops.pad(rank, ((0, 0), (0, max_output - count)))
        order = ops.pad(order, ((0, 0), (0, max_output - count)))
    rank, positions = top_k(rank, max_output)
    selected = rank > 0
    indices = ops.cast(ops.take_along_axis(order, positions, axis=1), "int32")
    return ops.where(selected, indices, ops.zeros_like(indices)), selected


def _suppress_sorted(boxes, alive, iou_threshold):
    """Suppresses boxes `[B, N, 4]` in descending score tile by tile; returns a mask `[B, N]` of the survivors."""
    count = boxes.shape[1]
    kept = None
    for start in range(0, count, TILE):
        tile = boxes[:, start : start + TILE]
        survivors = alive[:, start : start + TILE]
        if kept is not None:
            overlaps = box_ops.iou_matrix(boxes[:, :start], tile) > iou_threshold
            survivors = ops.logical_and(
                survivors, ops.logical_not(ops.any(ops.logical_and(overlaps, kept[:, :, None]), axis=1))
            )
        survivors = _suppress_tile(tile, survivors, iou_threshold)
        kept = survivors if kept is None else ops.concatenate([kept, survivors], axis=1)
    return kept


def _suppress_tile(tile, alive, iou_threshold):
    """Suppresses greedily inside a tile, as a fixed point.

    A box stays when no staying box before it overlaps it. Starting from "all stay", every sweep settles at least
    one more box, so the loop ends; in practice after the longest chain of overlaps, a few sweeps.
    """
    size = tile.shape[1]
    earlier = ops.arange(size)[:, None] < ops.arange(size)[None, :]
    suppresses = ops.logical_and(box_ops.iou_matrix(tile, tile) > iou_threshold, earlier[None])

    def sweep(kept, changed):
        hit = ops.any(ops.logical_and(suppresses, kept[:, :, None]), axis=1)
        settled = ops.logical_and(alive, ops.logical_not(hit))
        return settled, ops.any(ops.not_equal(settled, kept))

    kept, _ = ops.while_loop(lambda kept, changed: changed, sweep, (alive, ops.any(alive)))
    return kept
