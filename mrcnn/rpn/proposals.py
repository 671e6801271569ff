"""From the outputs of the region proposal network to proposals (Ren et al. 2015, section 3.3).

One layer per step, so that notebooks can look at every step. Shapes are static, padded with zeros. Boxes are normalised
(y1, x1, y2, x2).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from mrcnn import boxes as box_ops
from mrcnn.layers import Float32Layer, gather_rows
from mrcnn.nms import non_max_suppression
from mrcnn.ordering import top_k

# Rounding error of a normalised coordinate.
_ROUNDING = 1e-6


def build_proposals(probabilities: Any, deltas: Any, anchors: Any, count: int, config: Any) -> Any:
    """Turns the outputs of the RPN into proposals.

    Args:
        probabilities: `[B, A, 2]`, probabilities of background and object.
        deltas: `[B, A, 4]`, box deltas divided by RPN_BBOX_STD_DEV.
        anchors: `[B, A, 4]`, normalised.
        count: Number of proposals per image.
        config: Uses PRE_NMS_LIMIT, RPN_INSIDE_ANCHORS, RPN_BBOX_STD_DEV and RPN_NMS_THRESHOLD.

    Returns:
        float32 `[B, count, 4]`, normalised, by descending score; zeros where there are fewer.
    """
    if config.RPN_INSIDE_ANCHORS:
        probabilities, anchors = InsideAnchors(name="inside_anchors")([probabilities, anchors])
    anchors, scores, deltas = TopAnchors(config.PRE_NMS_LIMIT, config.RPN_BBOX_STD_DEV, name="pre_nms_anchors")(
        [probabilities, deltas, anchors]
    )
    boxes = RefinedBoxes(name="refined_anchors")([anchors, deltas])
    boxes = ClippedBoxes(name="refined_anchors_clipped")(boxes)
    kept = SuppressedBoxes(count, config.RPN_NMS_THRESHOLD, name="rpn_non_max_suppression")([boxes, scores])
    return SelectedBoxes(name="ROI")([boxes, kept])


@keras.saving.register_keras_serializable("mrcnn")
class Anchors(keras.layers.Layer):
    """Constant anchors, repeated for every image of the batch.

    Input: any tensor with the batch as first dimension. Output: float32 `[B, A, 4]`.

    Args:
        anchors: float `[A, 4]`, normalised.
    """

    def __init__(self, anchors: Any, **kwargs):
        super().__init__(**kwargs)
        self.anchors = np.asarray(anchors, dtype=np.float32)

    def call(self, inputs):
        return ops.broadcast_to(ops.convert_to_tensor(self.anchors)[None], (ops.shape(inputs)[0], *self.anchors.shape))

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((inputs.shape[0], *self.anchors.shape), "float32")

    def get_config(self):
        return {**super().get_config(), "anchors": self.anchors.tolist()}


@keras.saving.register_keras_serializable("mrcnn")
class InsideAnchors(Float32Layer):
    """Sets probabilities and boxes of the anchors that reach beyond the image to 0, so that no proposal comes of them.

    Inputs: RPN probabilities `[B, A, 2]`, anchors `[B, A, 4]`. Outputs: the same two.
    """

    def call(self, inputs):
        probabilities, anchors = inputs
        beyond = ops.logical_or(anchors < -_ROUNDING, anchors > 1 + _ROUNDING)
        inside = ops.cast(ops.logical_not(ops.any(beyond, axis=-1, keepdims=True)), "float32")
        return probabilities * inside, anchors * inside

    def compute_output_spec(self, inputs):
        return tuple(keras.KerasTensor(each.shape, "float32") for each in inputs)


@keras.saving.register_keras_serializable("mrcnn")
class TopAnchors(Float32Layer):
    """Selects the anchors with the highest object probability.

    Inputs: RPN probabilities `[B, A, 2]`, RPN deltas `[B, A, 4]`, anchors `[B, A, 4]`. Outputs: anchors `[B, K, 4]`,
    scores `[B, K]` (descending), deltas `[B, K, 4]` in units of boxes, with K = min(limit, A). The anchors come first
    because the lineage's notebooks ask for `ROI/pre_nms_anchors:0`. Anchors of zeros, which lie in padding, come last.

    Args:
        limit: Number of anchors to keep per image.
        deviation: Four factors that turn network outputs into deltas (`Config.RPN_BBOX_STD_DEV`).
    """

    def __init__(self, limit: int, deviation: Any, **kwargs):
        super().__init__(**kwargs)
        self.limit = limit
        self.deviation = [float(value) for value in deviation]

    def call(self, inputs):
        # No gradient leaves through the proposals.
        probabilities, deltas, anchors = (ops.stop_gradient(tensor) for tensor in inputs)
        scores = probabilities[:, :, 1] * ops.cast(ops.any(anchors != 0, axis=-1), "float32")
        available = ops.shape(scores)[1]
        # One graph of TensorFlow for all sizes of images knows the number of anchors only when it runs.
        count = min(self.limit, available) if isinstance(available, int) else ops.minimum(self.limit, available)
        scores, order = top_k(scores, count)
        deltas = gather_rows(deltas, order) * ops.convert_to_tensor(self.deviation, "float32")
        return gather_rows(anchors, order), scores, deltas

    def compute_output_spec(self, inputs):
        batch, anchors, _ = inputs[0].shape
        count = self.limit if anchors is None else min(self.limit, anchors)
        shapes = (batch, count, 4), (batch, count), (batch, count, 4)
        return tuple(keras.KerasTensor(shape, "float32") for shape in shapes)

    def get_config(self):
        return {**super().get_config(), "limit": self.limit, "deviation": self.deviation}


@keras.saving.register_keras_serializable("mrcnn")
class RefinedBoxes(Float32Layer):
    """Moves boxes by their deltas. Inputs: boxes and deltas, both `[B, N, 4]`. Output: `[B, N, 4]`."""

    def call(self, inputs):
        boxes, deltas = inputs
        return box_ops.decode(boxes, deltas)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs[0].shape, "float32")


@keras.saving.register_keras_serializable("mrcnn")
class ClippedBoxes(Float32Layer):
    """Clips boxes to the image. Input and output: `[B, N, 4]`."""

    def call(self, boxes):
        return box_ops.clip(boxes, ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]))

    def compute_output_spec(self, boxes):
        return keras.KerasTensor(boxes.shape, "float32")


@keras.saving.register_keras_serializable("mrcnn")
class SuppressedBoxes(Float32Layer):
    """Suppresses boxes that overlap one with a higher score (non-maximum suppression).

    Inputs: boxes `[B, N, 4]`, scores `[B, N]`. Output: indices int32 `[B, count]`, -1 where there are fewer.

    Args:
        count: Maximum number of boxes to select per image.
        iou_threshold: IoU above which the weaker of two boxes is suppressed.
    """

    def __init__(self, count: int, iou_threshold: float, **kwargs):
        super().__init__(**kwargs)
        self.count = count
        self.iou_threshold = iou_threshold

    def call(self, inputs):
        boxes, scores = inputs
        indices, selected = non_max_suppression(boxes, scores, self.count, self.iou_threshold)
        return ops.where(selected, indices, ops.full_like(indices, -1))

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((inputs[0].shape[0], self.count), "int32")


@keras.saving.register_keras_serializable("mrcnn")
class SelectedBoxes(Float32Layer):
    """Gathers boxes by index. Inputs: boxes `[B, N, 4]`, int32 `[B, K]`. Output: `[B, K, 4]`, zeros for index -1."""

    def call(self, inputs):
        boxes, indices = inputs
        rows = gather_rows(boxes, ops.maximum(indices, 0))
        return rows * ops.cast(indices >= 0, "float32")[:, :, None]

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((*inputs[1].shape, 4), "float32")
