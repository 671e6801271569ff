"""The five losses of Mask R-CNN (He et al. 2017, section 3; Ren et al. 2015, eq. 1).

Each returns a float32 scalar, 0 where there is nothing to learn from.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from mrcnn.ordering import top_k


def _masked_mean(values: Any, weights: Any) -> Any:
    """Mean of `values` where `weights` is 1; 0 when it is so nowhere."""
    weights = ops.cast(weights, "float32")
    return ops.sum(values * weights) / ops.maximum(ops.sum(weights), 1.0)


def smooth_l1_loss(y_true: Any, y_pred: Any) -> Any:
    """Elementwise smooth L1 (Girshick 2015, eq. 3): quadratic below a difference of 1, linear above."""
    difference = ops.abs(y_true - y_pred)
    return ops.where(difference < 1.0, 0.5 * ops.square(difference), difference - 0.5)


def _cross_entropy(target_ids: Any, logits: Any) -> Any:
    """Softmax cross-entropy `[...]` of logits `[..., K]` against class ids `[...]`."""
    log_probabilities = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    return -ops.take_along_axis(log_probabilities, ops.cast(target_ids, "int32")[..., None], axis=-1)[..., 0]


def rpn_class_loss_graph(rpn_match: Any, rpn_class_logits: Any) -> Any:
    """Object or background, over the anchors that are either.

    Args:
        rpn_match: `[B, A, 1]`: 1 object, -1 background, 0 neutral.
        rpn_class_logits: `[B, A, 2]`.
    """
    match = ops.squeeze(rpn_match, axis=-1)
    loss = _cross_entropy(ops.cast(match == 1, "int32"), rpn_class_logits)
    return _masked_mean(loss, match != 0)


def rpn_bbox_loss_graph(config: Any, target_bbox: Any, rpn_match: Any, rpn_bbox: Any) -> Any:
    """Box deltas of the positive anchors.

    Args:
        config: Not used; the lineage's signature.
        target_bbox: `[B, K, 4]`; row k belongs to the k-th positive anchor of the image.
        rpn_match: `[B, A, 1]`.
        rpn_bbox: `[B, A, 4]`.
    """
    positive = ops.squeeze(rpn_match, axis=-1) == 1
    count = target_bbox.shape[1]
    # The first K positive anchors in order: their scores fall with their index.
    anchors = positive.shape[1]
    order = ops.where(positive, anchors - ops.arange(anchors, dtype="int32")[None], 0)
    order, indices = top_k(order, min(count, anchors))
    predicted = ops.take_along_axis(rpn_bbox, ops.cast(indices, "int32")[..., None], axis=1)
    loss = smooth_l1_loss(ops.cast(target_bbox, "float32")[:, : predicted.shape[1]], predicted)
    return _masked_mean(ops.mean(loss, axis=-1), order > 0)


def mrcnn_class_loss_graph(target_class_ids: Any, pred_class_logits: Any, active_class_ids: Any) -> Any:
    """Class of the RoIs.

    Args:
        target_class_ids: `[B, R]`; -1 marks an unused slot.
        pred_class_logits: `[B, R, K]`.
        active_class_ids: `[B, K]` or `[K]`: 1 for the classes that the image's data set labels. A RoI whose predicted
            class is not among them is left out.
    """
    target = ops.maximum(target_class_ids, 0)
    loss = _cross_entropy(target, pred_class_logits)
    active = ops.cast(active_class_ids, "float32")
    if len(active.shape) == 1:
        active = active[None]
    active = ops.broadcast_to(active, (ops.shape(loss)[0], active.shape[-1]))
    predicted = ops.argmax(pred_class_logits, axis=-1)
    is_active = ops.take_along_axis(active, ops.cast(predicted, "int32"), axis=1)
    return _masked_mean(loss, is_active * ops.cast(target_class_ids >= 0, "float32"))


def mrcnn_bbox_loss_graph(target_bbox: Any, target_class_ids: Any, pred_bbox: Any) -> Any:
    """Box deltas of the positive RoIs, those of their own class.

    Args:
        target_bbox: `[B, R, 4]`.
        target_class_ids: `[B, R]`.
        pred_bbox: `[B, R, K, 4]`.
    """
    own = ops.cast(ops.maximum(target_class_ids, 0), "int32")[:, :, None, None]
    predicted = ops.take_along_axis(pred_bbox, own, axis=2)[:, :, 0]
    loss = ops.mean(smooth_l1_loss(target_bbox, predicted), axis=-1)
    return _masked_mean(loss, target_class_ids > 0)


def mrcnn_mask_loss_graph(target_masks: Any, target_class_ids: Any, pred_masks: Any) -> Any:
    """Binary cross-entropy of the positive RoIs' masks, those of their own class.

    Args:
        target_masks: `[B, R, h, w]` of zeros and ones.
        target_class_ids: `[B, R]`.
        pred_masks: Probabilities `[B, R, h, w, K]`.
    """
    own = ops.cast(ops.maximum(target_class_ids, 0), "int32")[:, :, None, None, None]
    predicted = ops.take_along_axis(pred_masks, own, axis=4)[..., 0]
    predicted = ops.clip(predicted, 1e-7, 1.0 - 1e-7)
    loss = -(target_masks * ops.log(predicted) + (1.0 - target_masks) * ops.log(1.0 - predicted))
    return _masked_mean(ops.mean(loss, axis=(2, 3)), target_class_ids > 0)
