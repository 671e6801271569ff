"""Losses of Mask R-CNN (He et al. 2017, section 3; Ren et al. 2015, eq. 1).

Each is a float32 scalar, 0 where no anchor or RoI counts.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from mrcnn.ordering import top_k
from trainkit.devices import joint_sum


def _masked_mean(values: Any, weights: Any) -> Any:
    """Computes the mean of `values` over the whole batch where `weights` is 1; 0 if it is 1 nowhere."""
    weights = ops.cast(weights, "float32")
    total, count = joint_sum([ops.sum(values * weights), ops.sum(weights)])
    return total / ops.maximum(count, 1.0)


def smooth_l1_loss(y_true: Any, y_pred: Any) -> Any:
    """Computes the smooth L1 of each element (Girshick 2015, eq. 3): quadratic below a difference of 1, else linear.

    Args:
        y_true: Float tensor of any shape.
        y_pred: Float tensor of the same shape.

    Returns:
        Tensor of that shape.
    """
    difference = ops.abs(y_true - y_pred)
    return ops.where(difference < 1.0, 0.5 * ops.square(difference), difference - 0.5)


def _cross_entropy(target_ids: Any, logits: Any) -> Any:
    """Computes the softmax cross-entropy `[...]` of logits `[..., K]` against class ids `[...]`."""
    log_probabilities = ops.log_softmax(ops.cast(logits, "float32"), axis=-1)
    return -ops.take_along_axis(log_probabilities, ops.cast(target_ids, "int32")[..., None], axis=-1)[..., 0]


def rpn_class_loss_graph(rpn_match: Any, rpn_class_logits: Any) -> Any:
    """Computes the cross-entropy of object against background over the labelled anchors (Ren et al. 2015, eq. 1).

    Args:
        rpn_match: int `[B, A, 1]`: 1 object, -1 background, 0 neutral.
        rpn_class_logits: float32 `[B, A, 2]`, background and object.
    """
    match = ops.squeeze(rpn_match, axis=-1)
    loss = _cross_entropy(ops.cast(match == 1, "int32"), rpn_class_logits)
    return _masked_mean(loss, match != 0)


def rpn_bbox_loss_graph(config: Any, target_bbox: Any, rpn_match: Any, rpn_bbox: Any) -> Any:
    """Computes the smooth L1 loss of the box deltas of the positive anchors (Ren et al. 2015, eq. 1).

    Args:
        config: Unused; part of the lineage's signature.
        target_bbox: float `[B, K, 4]`; row k belongs to the k-th positive anchor of the image.
        rpn_match: int `[B, A, 1]`: 1 object, -1 background, 0 neutral.
        rpn_bbox: float32 `[B, A, 4]`, predicted deltas.
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
    """Computes the cross-entropy of the classes of the RoIs (He et al. 2017, section 3).

    Args:
        target_class_ids: int `[B, R]`, 0 for background; -1 marks an unused slot.
        pred_class_logits: float32 `[B, R, K]`.
        active_class_ids: `[B, K]` or `[K]`, 1 for the classes that the image's data set labels. RoIs whose predicted
            class is another one are left out.
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
    """Computes the smooth L1 loss of the box deltas of the positive RoIs' own classes (Girshick 2015, eq. 2).

    Args:
        target_bbox: float32 `[B, R, 4]`, target deltas.
        target_class_ids: int `[B, R]`, above 0 for positive RoIs.
        pred_bbox: float32 `[B, R, K, 4]`, predicted deltas of every class.
    """
    own = ops.cast(ops.maximum(target_class_ids, 0), "int32")[:, :, None, None]
    predicted = ops.take_along_axis(pred_bbox, own, axis=2)[:, :, 0]
    loss = ops.mean(smooth_l1_loss(target_bbox, predicted), axis=-1)
    return _masked_mean(loss, target_class_ids > 0)


def mrcnn_mask_loss_graph(target_masks: Any, target_class_ids: Any, pred_masks: Any) -> Any:
    """Computes the binary cross-entropy of the masks of the positive RoIs' own classes (He et al. 2017, section 3).

    Args:
        target_masks: float32 `[B, R, h, w]` of zeros and ones.
        target_class_ids: int `[B, R]`, above 0 for positive RoIs.
        pred_masks: float32 `[B, R, h, w, K]`, predicted probabilities of every class.
    """
    own = ops.cast(ops.maximum(target_class_ids, 0), "int32")[:, :, None, None, None]
    predicted = ops.take_along_axis(pred_masks, own, axis=4)[..., 0]
    predicted = ops.clip(predicted, 1e-7, 1.0 - 1e-7)
    loss = -(target_masks * ops.log(predicted) + (1.0 - target_masks) * ops.log(1.0 - predicted))
    return _masked_mean(ops.mean(loss, axis=(2, 3)), target_class_ids > 0)
