"""From classified RoIs to detections. Boxes are normalised (y1, x1, y2, x2)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from mrcnn import boxes as box_ops
from mrcnn.image_meta import parse_image_meta_graph
from mrcnn.layers import Float32Layer, gather_rows
from mrcnn.nms import non_max_suppression
from mrcnn.ordering import top_k


@keras.saving.register_keras_serializable("mrcnn")
class Detections(Float32Layer):
    """Turns classified RoIs into detections (He et al. 2017, section 3.1, inference).

    Inputs: RoIs `[B, N, 4]`, class probabilities `[B, N, C]`, deltas `[B, N, C, 4]`, image meta `[B, M]`. Output:
    `[B, count, 6]` as (y1, x1, y2, x2, class id, score), descending score, zeros where there are fewer.

    Args:
        count: Maximum number of detections per image.
        min_confidence: Minimum score; 0 or None keeps all.
        nms_threshold: IoU above which the weaker of two detections of one class is suppressed.
        deviation: Four factors that turn network outputs into deltas (`Config.BBOX_STD_DEV`).
    """

    def __init__(self, count, min_confidence, nms_threshold, deviation, **kwargs):
        super().__init__(**kwargs)
        self.count = count
        self.min_confidence = min_confidence
        self.nms_threshold = nms_threshold
        self.deviation = [float(value) for value in deviation]

    def call(self, inputs):
        rois, probabilities, deltas, meta = inputs
        # The largest by `top_k`, since Keras's argmax in TensorFlow has operations that ONNX lacks.
        scores, class_ids = (best[..., 0] for best in top_k(probabilities, 1))
        class_ids = ops.cast(class_ids, "int32")
        own_deltas = ops.take_along_axis(deltas, class_ids[:, :, None, None], axis=2)[:, :, 0]
        boxes = box_ops.decode(rois, own_deltas * ops.convert_to_tensor(self.deviation, "float32"))
        boxes = box_ops.clip(boxes, window_of(meta)[:, None])
        keep = ops.logical_and(class_ids > 0, ops.any(rois != 0, axis=-1))
        if self.min_confidence:
            keep = ops.logical_and(keep, scores >= self.min_confidence)
        # Boxes of different classes must not meet: each class gets its own strip of the plane.
        strip = ops.cast(ops.maximum(class_ids - 1, 0), "float32") * 2.0
        indices, selected = non_max_suppression(
            boxes + strip[:, :, None], scores, self.count, self.nms_threshold, valid=keep
        )
        rows = ops.concatenate([boxes, ops.cast(class_ids, "float32")[..., None], scores[..., None]], axis=-1)
        return gather_rows(rows, indices) * ops.cast(selected, "float32")[:, :, None]

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((inputs[0].shape[0], self.count, 6), "float32")

    def get_config(self):
        settings = ("count", "min_confidence", "nms_threshold", "deviation")
        return {**super().get_config(), **{name: getattr(self, name) for name in settings}}


@keras.saving.register_keras_serializable("mrcnn")
class ImageExtent(Float32Layer):
    """Height and width in pixels in which boxes are normalised, without padding that was added to share graphs.

    Input: image meta `[B, M]`. Output: `[B, 2]`.
    """

    def call(self, meta):
        return parse_image_meta_graph(meta)["image_shape"][:, :2]

    def compute_output_spec(self, meta):
        return keras.KerasTensor((meta.shape[0], 2), "float32")


@keras.saving.register_keras_serializable("mrcnn")
class DetectionBoxes(Float32Layer):
    """Boxes of detections. Input: `[B, D, 6]`. Output: `[B, D, 4]`."""

    def call(self, detections):
        return detections[:, :, :4]

    def compute_output_spec(self, detections):
        return keras.KerasTensor((*detections.shape[:2], 4), "float32")


def window_of(meta: Any) -> Any:
    """Reads from image meta `[B, M]` the part of each image that is not padding, normalised `[B, 4]`."""
    facts = parse_image_meta_graph(meta)
    height, width = facts["image_shape"][:, 0], facts["image_shape"][:, 1]
    scale = ops.stack([height, width, height, width], axis=-1) - 1.0
    return (facts["window"] - ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])) / scale
