"""The layers between the convolutions: batch norm, proposals, training targets, detections.

Every output shape is fixed by the configuration: what is not there is padded with zeros. Boxes are normalised
(y1, x1, y2, x2).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from mrcnn import boxes as box_ops
from mrcnn.nms import non_max_suppression
from mrcnn.ordering import top_k
from mrcnn.roi_align import crop_and_resize, pyramid_roi_align

POSITIVE_IOU = 0.5
CROWD_IOU = 0.001


def gather_rows(rows: Any, indices: Any) -> Any:
    """Takes rows of each image: `[B, N, ...]` and int `[B, K]` give `[B, K, ...]`."""
    extra = (None,) * (len(rows.shape) - 2)
    return ops.take_along_axis(rows, indices[(slice(None), slice(None), *extra)], axis=1)


class Float32Layer(keras.layers.Layer):
    """A layer that computes in float32 whatever the model's precision: boxes and scores need it."""

    def __init__(self, **kwargs):
        super().__init__(**{**kwargs, "dtype": "float32"})


@keras.saving.register_keras_serializable("mrcnn")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch normalisation that can be kept at its stored statistics while everything else trains.

    Args:
        train_bn: False uses the stored statistics always (batches of one or two images are too small to measure
            them), None follows the model's training flag, True uses the batch's statistics always.
        **kwargs: Those of `keras.layers.BatchNormalization`.
    """

    def __init__(self, train_bn: bool | None = False, **kwargs):
        super().__init__(**kwargs)
        self.train_bn = train_bn

    def call(self, inputs, training=None, mask=None):
        training = bool(training) if self.train_bn is None else self.train_bn
        if training and self.trainable:
            return super().call(inputs, training=True, mask=mask)
        # One multiplication and one addition in the compute dtype, the vectors in float32.
        scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
        shift = self.beta - self.moving_mean * scale
        return inputs * ops.cast(scale, inputs.dtype) + ops.cast(shift, inputs.dtype)

    def get_config(self):
        return {**super().get_config(), "train_bn": self.train_bn}


@keras.saving.register_keras_serializable("mrcnn")
class RoIConv2D(keras.layers.Conv2D):
    """A convolution whose kernel covers its whole input, done as one matrix product.

    Input `[N, k, k, C]`, output `[N, 1, 1, filters]`; weights as those of `Conv2D(filters, k, padding="valid")`.
    """

    def call(self, inputs):
        flat = ops.reshape(inputs, [-1, int(np.prod(inputs.shape[1:]))])
        kernel = ops.reshape(ops.cast(self.kernel, flat.dtype), [-1, self.filters])
        outputs = ops.matmul(flat, kernel) + ops.cast(self.bias, flat.dtype)
        return outputs[:, None, None, :]


@keras.saving.register_keras_serializable("mrcnn")
class PointwiseConv2D(keras.layers.Conv2D):
    """A 1x1 convolution of maps with any number of leading dimensions.

    Input `[..., H, W, C]`, output `[..., H, W, filters]`; weights as those of `Conv2D(filters, 1)`.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, **{"kernel_size": 1, **kwargs})

    def build(self, input_shape):
        super().build((None, 1, 1, input_shape[-1]))

    def call(self, inputs):
        outputs = ops.matmul(inputs, self.kernel[0, 0]) + self.bias
        return self.activation(outputs)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((*inputs.shape[:-1], self.filters), self.compute_dtype)


@keras.saving.register_keras_serializable("mrcnn")
class Anchors(keras.layers.Layer):
    """The constant anchors, repeated for every image of the batch.

    Input: any tensor with the batch as first dimension. Output: float32 `[B, A, 4]`.
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
class TopAnchors(Float32Layer):
    """The anchors that the RPN holds most likely to contain an object.

    Inputs: RPN probabilities `[B, A, 2]`, RPN deltas `[B, A, 4]`, anchors `[B, A, 4]`. Outputs: anchors `[B, K, 4]`,
    scores `[B, K]` (descending), deltas `[B, K, 4]` in units of boxes, with K = min(limit, A). The anchors come first
    because the lineage's notebooks ask for `ROI/pre_nms_anchors:0`.

    Args:
        limit: Anchors to keep.
        deviation: Four factors that turn network outputs into deltas (`Config.RPN_BBOX_STD_DEV`).
    """

    def __init__(self, limit: int, deviation: Any, **kwargs):
        super().__init__(**kwargs)
        self.limit = limit
        self.deviation = [float(value) for value in deviation]

    def call(self, inputs):
        # No gradient leaves through the proposals.
        probabilities, deltas, anchors = (ops.stop_gradient(tensor) for tensor in inputs)
        scores = probabilities[:, :, 1]
        count = self.limit if scores.shape[1] is None else min(self.limit, scores.shape[1])
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
    """Boxes moved by their deltas. Inputs: boxes and deltas, both `[B, N, 4]`. Output: `[B, N, 4]`."""

    def call(self, inputs):
        boxes, deltas = inputs
        return box_ops.decode(boxes, deltas)

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs[0].shape, "float32")


@keras.saving.register_keras_serializable("mrcnn")
class ClippedBoxes(Float32Layer):
    """Boxes clipped to the image. Input and output: `[B, N, 4]`."""

    def call(self, boxes):
        return box_ops.clip(boxes, ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]))

    def compute_output_spec(self, boxes):
        return keras.KerasTensor(boxes.shape, "float32")


@keras.saving.register_keras_serializable("mrcnn")
class SuppressedBoxes(Float32Layer):
    """Non-maximum suppression.

    Inputs: boxes `[B, N, 4]`, scores `[B, N]`. Output: int32 `[B, count]` indices, -1 where there are fewer.

    Args:
        count: Boxes to select.
        iou_threshold: IoU above which the weaker of two boxes goes.
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

    def get_config(self):
        return {**super().get_config(), "count": self.count, "iou_threshold": self.iou_threshold}


@keras.saving.register_keras_serializable("mrcnn")
class SelectedBoxes(Float32Layer):
    """Rows by index. Inputs: boxes `[B, N, 4]`, int32 `[B, K]`. Output: `[B, K, 4]`, zeros where the index is -1."""

    def call(self, inputs):
        boxes, indices = inputs
        rows = gather_rows(boxes, ops.maximum(indices, 0))
        return rows * ops.cast(indices >= 0, "float32")[:, :, None]

    def compute_output_spec(self, inputs):
        return keras.KerasTensor((*inputs[1].shape, 4), "float32")


@keras.saving.register_keras_serializable("mrcnn")
class PyramidROIAlign(keras.layers.Layer):
    """Pools RoIs from the feature pyramid.

    Inputs: RoIs `[B, R, 4]`, image `[B, H, W, C]` (its size decides the levels), P2, P3, P4, P5. Output:
    `[B, R, pool_size, pool_size, C]`.

    Args:
        pool_size: Side of the pooled features.
    """

    def __init__(self, pool_size: int, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.pool_size = pool_size

    def call(self, inputs):
        rois, image, *features = inputs
        height, width = ops.shape(image)[1:3]
        return pyramid_roi_align(features, ops.stop_gradient(rois), height * width, self.pool_size)

    def compute_output_spec(self, inputs):
        rois, _, *features = inputs
        shape = (*rois.shape[:2], self.pool_size, self.pool_size, features[0].shape[-1])
        return keras.KerasTensor(shape, features[0].dtype)

    def get_config(self):
        return {**super().get_config(), "pool_size": self.pool_size}


@keras.saving.register_keras_serializable("mrcnn")
class FoldRois(keras.layers.Layer):
    """Joins batch and RoIs: `[B, R, ...]` becomes `[B·R, ...]`, so that heads are plain layers."""

    def call(self, inputs):
        return ops.reshape(inputs, (-1, *inputs.shape[2:]))

    def compute_output_spec(self, inputs):
        batch, count = inputs.shape[:2]
        folded = None if batch is None or count is None else batch * count
        return keras.KerasTensor((folded, *inputs.shape[2:]), inputs.dtype)


@keras.saving.register_keras_serializable("mrcnn")
class UnfoldRois(Float32Layer):
    """Undoes `FoldRois`. Inputs: `[B·R, ...]` and RoIs `[B, R, 4]`. Output: float32 `[B, R, *shape]`.

    Args:
        shape: Shape of one RoI's row; None keeps the input's.
    """

    def __init__(self, shape: Any = None, **kwargs):
        super().__init__(**kwargs)
        self.shape = None if shape is None else tuple(shape)

    def call(self, inputs):
        values, rois = inputs
        return ops.reshape(values, (*ops.shape(rois)[:2], *(self.shape or values.shape[1:])))

    def compute_output_spec(self, inputs):
        values, rois = inputs
        return keras.KerasTensor((*rois.shape[:2], *(self.shape or values.shape[1:])), "float32")

    def get_config(self):
        return {**super().get_config(), "shape": self.shape}


@keras.saving.register_keras_serializable("mrcnn")
class DetectionTargets(Float32Layer):
    """Chooses the RoIs that train the heads, and what the heads should answer (He et al. 2017, section 3.1).

    Inputs: proposals `[B, N, 4]`; ground truth, padded with zeros: class ids int32 `[B, G]` (negative for crowds),
    boxes `[B, G, 4]`, masks `[B, h, w, G]`. Outputs, with T = `count` and P = int(T · positive_ratio): RoIs
    `[B, T, 4]`, class ids int32 `[B, T]` (0 background, -1 an unused slot), deltas `[B, T, 4]` and masks
    `[B, P, *mask_shape]` for the first P slots, the only ones that hold positives.

    A proposal is positive from IoU 0.5 with a ground-truth box on. Negatives keep the ratio to the positives that
    were found; an image without any positive gives T - P of them, so that empty images teach the background.

    Args:
        count: RoIs an image.
        positive_ratio: Largest share of positives.
        deviation: Divides the deltas (`Config.BBOX_STD_DEV`).
        mask_shape: (height, width) of the target masks.
        mini_masks: Whether masks are crops of their boxes rather than of image size.
        seed: Seeds the random choice.
    """

    def __init__(self, count, positive_ratio, deviation, mask_shape, mini_masks, seed=0, **kwargs):
        super().__init__(**kwargs)
        self.count = count
        self.positive_ratio = positive_ratio
        self.positive_count = max(1, int(count * positive_ratio))
        self.deviation = [float(value) for value in deviation]
        self.mask_shape = tuple(int(side) for side in mask_shape)
        self.mini_masks = mini_masks
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, inputs):
        proposals, class_ids, boxes, masks = inputs
        proposals = ops.stop_gradient(proposals)
        missing = self.count - proposals.shape[1]
        if missing > 0:
            proposals = ops.pad(proposals, ((0, 0), (0, missing), (0, 0)))
        overlaps, is_positive, is_negative = self._judge(proposals, class_ids, boxes)
        positive, is_used = self._choose(is_positive, self.positive_count)
        positive_found = ops.sum(ops.cast(is_used, "float32"), axis=1, keepdims=True)
        negative, is_spare = self._choose(is_negative, self.count - self.positive_count)
        wanted = ops.floor(positive_found / self.positive_ratio) - positive_found
        wanted = ops.where(positive_found > 0, wanted, ops.full_like(wanted, self.count))
        rank = ops.arange(self.count - self.positive_count, dtype="float32")[None]
        is_spare = ops.logical_and(is_spare, rank < wanted)

        rois = gather_rows(proposals, positive)
        match = ops.argmax(gather_rows(overlaps, positive), axis=-1)
        matched_boxes = gather_rows(boxes, match)
        matched_ids = ops.take_along_axis(ops.cast(class_ids, "int32"), ops.cast(match, "int32"), axis=1)
        unused = ops.full_like(matched_ids, -1)
        # Unused slots get harmless boxes: no logarithm of zero may reach the graph.
        whole = ops.broadcast_to(ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0]), ops.shape(rois))
        safe_rois = ops.where(is_used[:, :, None], rois, whole)
        safe_boxes = ops.where(is_used[:, :, None], matched_boxes, whole)
        deltas = box_ops.encode(safe_rois, safe_boxes) / ops.convert_to_tensor(self.deviation, "float32")
        target_masks = self._crop_masks(masks, match, safe_rois, safe_boxes)
        target_masks = target_masks * ops.cast(is_used, "float32")[:, :, None, None]

        zero = ops.zeros_like(negative)
        negative_rois = gather_rows(proposals, negative) * ops.cast(is_spare, "float32")[:, :, None]
        rois = ops.concatenate([rois * ops.cast(is_used, "float32")[:, :, None], negative_rois], axis=1)
        negative_ids = ops.where(is_spare, zero, zero - 1)
        target_ids = ops.concatenate([ops.where(is_used, matched_ids, unused), ops.cast(negative_ids, "int32")], axis=1)
        deltas = ops.pad(deltas, ((0, 0), (0, self.count - self.positive_count), (0, 0)))
        return tuple(ops.stop_gradient(t) for t in (rois, target_ids, deltas, target_masks))

    def _judge(self, proposals, class_ids, boxes):
        """IoUs with real objects `[B, N, G]`, and which proposals are positive and negative, `[B, N]`."""
        exists = ops.any(proposals != 0, axis=-1)
        overlaps = box_ops.iou_matrix(proposals, boxes)
        nothing = ops.zeros_like(overlaps)
        object_overlaps = ops.where((class_ids > 0)[:, None, :], overlaps, nothing)
        crowd_overlap = ops.max(ops.where((class_ids < 0)[:, None, :], overlaps, nothing), axis=-1)
        best = ops.max(object_overlaps, axis=-1)
        is_positive = ops.logical_and(exists, best >= POSITIVE_IOU)
        is_negative = ops.logical_and(exists, ops.logical_and(best < POSITIVE_IOU, crowd_overlap < CROWD_IOU))
        return object_overlaps, is_positive, is_negative

    def _choose(self, candidates, count):
        """A random choice of `count` candidates an image: int32 `[B, count]`, and which of them are real."""
        lottery = keras.random.uniform(ops.shape(candidates), seed=self.seed_generator)
        lottery = ops.where(candidates, lottery, ops.full_like(lottery, -1.0))
        tickets, indices = top_k(lottery, count)
        return ops.cast(indices, "int32"), tickets >= 0

    def _crop_masks(self, masks, match, rois, boxes):
        """The matched masks, cut to their RoIs and resized: `[B, P, *mask_shape]` of zeros and ones."""
        _, height, width, instances = masks.shape
        stack = ops.reshape(ops.transpose(masks, (0, 3, 1, 2)), (-1, height, width))
        image = ops.arange(ops.shape(match)[0], dtype="int32")[:, None] * instances
        flat_match = ops.reshape(image + ops.cast(match, "int32"), (-1,))
        chosen = ops.cast(ops.take(stack, flat_match, axis=0), "float32")[..., None]
        if self.mini_masks:
            y1, x1, y2, x2 = box_ops.split(boxes)
            scale = ops.stack([y2 - y1, x2 - x1, y2 - y1, x2 - x1], axis=-1)
            rois = (rois - ops.stack([y1, x1, y1, x1], axis=-1)) / scale
        rois = ops.reshape(rois, (-1, 4))
        crops = crop_and_resize(chosen, rois, ops.arange(ops.shape(rois)[0], dtype="int32"), self.mask_shape)
        return ops.round(ops.reshape(crops, (-1, self.positive_count, *self.mask_shape)))

    def compute_output_spec(self, inputs):
        batch = inputs[0].shape[0]
        return (
            keras.KerasTensor((batch, self.count, 4), "float32"),
            keras.KerasTensor((batch, self.count), "int32"),
            keras.KerasTensor((batch, self.count, 4), "float32"),
            keras.KerasTensor((batch, self.positive_count, *self.mask_shape), "float32"),
        )

    def get_config(self):
        settings = ("count", "positive_ratio", "deviation", "mask_shape", "mini_masks", "seed")
        return {**super().get_config(), **{name: getattr(self, name) for name in settings}}


@keras.saving.register_keras_serializable("mrcnn")
class Detections(Float32Layer):
    """Turns classified proposals into final detections.

    Inputs: RoIs `[B, N, 4]`, class probabilities `[B, N, C]`, deltas `[B, N, C, 4]`, image meta `[B, M]`. Output:
    `[B, count, 6]` as (y1, x1, y2, x2, class id, score), descending score, zeros where there are fewer.

    Args:
        count: Detections an image at most.
        min_confidence: Smallest score; 0 or None keeps all.
        nms_threshold: IoU above which the weaker of two detections of one class goes.
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
        class_ids = ops.cast(ops.argmax(probabilities, axis=-1), "int32")
        scores = ops.max(probabilities, axis=-1)
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


def window_of(meta: Any) -> Any:
    """The part of each molded image that is not padding, normalised `[B, 4]`, from image meta `[B, M]`."""
    height, width = meta[:, 4], meta[:, 5]
    scale = ops.stack([height, width, height, width], axis=-1) - 1.0
    return (meta[:, 7:11] - ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])) / scale


@keras.saving.register_keras_serializable("mrcnn")
class NormalizedBoxes(Float32Layer):
    """Normalises pixel boxes.

    Inputs: boxes `[B, N, 4]`, image `[B, H, W, C]`. Output: `[B, N, 4]`; rows of zeros stay zero.
    """

    def call(self, inputs):
        boxes, image = inputs
        boxes = ops.cast(boxes, "float32")  # RoIs come as integers.
        height, width = (ops.cast(side, "float32") for side in ops.shape(image)[1:3])
        scale = ops.stack([height, width, height, width]) - 1.0
        normalized = (boxes - ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0])) / scale
        exists = ops.any(boxes != 0, axis=-1, keepdims=True)
        return normalized * ops.cast(exists, "float32")

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(inputs[0].shape, "float32")


@keras.saving.register_keras_serializable("mrcnn")
class FirstRois(Float32Layer):
    """The first `count` RoIs. Input: `[B, R, 4]`. Output: `[B, count, 4]`."""

    def __init__(self, count: int, **kwargs):
        super().__init__(**kwargs)
        self.count = count

    def call(self, rois):
        return rois[:, : self.count]

    def compute_output_spec(self, rois):
        return keras.KerasTensor((rois.shape[0], self.count, 4), "float32")

    def get_config(self):
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable("mrcnn")
class DetectionBoxes(Float32Layer):
    """The boxes of detections. Input: `[B, D, 6]`. Output: `[B, D, 4]`."""

    def call(self, detections):
        return detections[:, :, :4]

    def compute_output_spec(self, detections):
        return keras.KerasTensor((*detections.shape[:2], 4), "float32")
