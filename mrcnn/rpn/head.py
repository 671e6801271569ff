"""Head of the region proposal network. Layer names are the lineage's."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers


def build_rpn_model(anchor_stride: int, anchors_per_location: int, depth: int, channels: int = 512) -> keras.Model:
    """Builds the region proposal network of one pyramid level (Ren et al. 2015, section 3.1).

    Args:
        anchor_stride: Cells between neighbouring anchors; 1 puts anchors at every cell.
        anchors_per_location: Number of anchors at each cell, one per aspect ratio.
        depth: Number of channels of the pyramid.
        channels: Number of channels of the shared convolution.

    Returns:
        A model from `[B, H, W, depth]` to class logits `[B, A, 2]`, class probabilities `[B, A, 2]` (background,
        object) and box deltas `[B, A, 4]`, float32.
    """
    features = keras.Input((None, None, depth), name="input_rpn_feature_map")
    shared = layers.Conv2D(
        channels, 3, strides=anchor_stride, padding="same", activation="relu", name="rpn_conv_shared"
    )(features)
    logits = layers.Conv2D(2 * anchors_per_location, 1, name="rpn_class_raw")(shared)
    logits = layers.Reshape((-1, 2), dtype="float32", name="rpn_class_logits")(logits)
    probabilities = layers.Activation("softmax", dtype="float32", name="rpn_class_xxx")(logits)
    deltas = layers.Conv2D(4 * anchors_per_location, 1, name="rpn_bbox_pred")(shared)
    deltas = layers.Reshape((-1, 4), dtype="float32", name="rpn_bbox_deltas")(deltas)
    return keras.Model(features, [logits, probabilities, deltas], name="rpn_model")


def run_rpn(rpn: keras.Model, pyramid: list[Any]) -> tuple[Any, Any, Any]:
    """Runs one region proposal network over all levels of the pyramid.

    Args:
        rpn: Network from `build_rpn_model`.
        pyramid: [P2, …, P6], each `[B, H, W, depth]`.

    Returns:
        Class logits `[B, A, 2]`, class probabilities `[B, A, 2]` and deltas `[B, A, 4]` of the anchors of all levels,
        float32.
    """
    logits, probabilities, deltas = zip(*(rpn(level) for level in pyramid), strict=True)
    return (
        layers.Concatenate(axis=1, name="rpn_class_logits", dtype="float32")(list(logits)),
        layers.Concatenate(axis=1, name="rpn_class", dtype="float32")(list(probabilities)),
        layers.Concatenate(axis=1, name="rpn_bbox", dtype="float32")(list(deltas)),
    )
