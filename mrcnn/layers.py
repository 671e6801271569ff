"""Layers that several parts of the network share: batch norm, RoI pooling, convolutions of RoIs.

Boxes are normalised (y1, x1, y2, x2).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from mrcnn.roi_align import pyramid_roi_align


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
        if self.uses_batch(bool(training)) and self.trainable:
            return super().call(inputs, training=True, mask=mask)
        # One multiplication and one addition in the compute dtype, the vectors in float32.
        scale, shift = self.scale_and_shift()
        return inputs * ops.cast(scale, inputs.dtype) + ops.cast(shift, inputs.dtype)

    def uses_batch(self, training: bool) -> bool:
        """Tells whether the statistics are the batch's, as long as the layer is trainable."""
        return training if self.train_bn is None else self.train_bn

    def scale_and_shift(self) -> tuple[Any, Any]:
        """Factor and summand of every channel with the stored statistics, each float32 `[C]`."""
        scale = self.gamma * ops.rsqrt(self.moving_variance + self.epsilon)
        return scale, self.beta - self.moving_mean * scale

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
