"""Layers of the box head and the mask head: RoI pooling and convolutions of pooled features.

Boxes are normalised (y1, x1, y2, x2).
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

from mrcnn.layers import Float32Layer
from mrcnn.roi_align import pyramid_roi_align


@keras.saving.register_keras_serializable("mrcnn")
class RoIConv2D(keras.layers.Conv2D):
    """Convolution whose kernel covers its whole input, computed as one matrix product.

    Input `[N, k, k, C]`, output `[N, 1, 1, filters]`; weights like those of `Conv2D(filters, k, padding="valid")`.
    """

    def call(self, inputs):
        flat = ops.reshape(inputs, [-1, int(np.prod(inputs.shape[1:]))])
        kernel = ops.reshape(ops.cast(self.kernel, flat.dtype), [-1, self.filters])
        outputs = ops.matmul(flat, kernel) + ops.cast(self.bias, flat.dtype)
        return outputs[:, None, None, :]


@keras.saving.register_keras_serializable("mrcnn")
class PointwiseConv2D(keras.layers.Conv2D):
    """1x1 convolution of maps with any number of leading dimensions.

    Input `[..., H, W, C]`, output `[..., H, W, filters]`; weights like those of `Conv2D(filters, 1)`.
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
    `[B, R, pool_size, pool_size, C]`; see `mrcnn.roi_align.pyramid_roi_align`.

    Args:
        pool_size: Side of the pooled features in cells.
        samples: Sampling points along each side of a cell, whose mean is taken.
        aligned: True aligns pixels and cells, wherever a RoI lies; False pools at the lineage's coordinates.
    """

    def __init__(self, pool_size: int, samples: int = 1, aligned: bool = False, **kwargs):
        super().__init__(autocast=False, **kwargs)
        self.pool_size = pool_size
        self.samples = samples
        self.aligned = aligned

    def call(self, inputs):
        rois, image, *features = inputs
        height, width = ops.shape(image)[1:3]
        return pyramid_roi_align(
            features,
            ops.stop_gradient(rois),
            height * width,
            self.pool_size,
            samples=self.samples,
            image_shape=(height, width) if self.aligned else None,
        )

    def compute_output_spec(self, inputs):
        rois, _, *features = inputs
        shape = (*rois.shape[:2], self.pool_size, self.pool_size, features[0].shape[-1])
        return keras.KerasTensor(shape, features[0].dtype)


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
    """Separates batch and RoIs after `FoldRois`.

    Inputs: `[B·R, ...]` and RoIs `[B, R, 4]`. Output: float32 `[B, R, *shape]`.

    Args:
        shape: Shape of the values of one RoI; None keeps that of the input.
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
