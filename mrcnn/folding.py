"""Batch norm with stored statistics, folded into the convolution before it.

Such a batch norm is one factor and one summand per channel: scaling the kernel instead of the map saves several passes
over the largest arrays of the network, forward and backward (Jacob et al. 2018, section 3.2). The weights stay where
they are, in layers of their old names, and learn as before.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

from mrcnn.layers import BatchNorm

# Scaling a kernel with more weights (those of stage 5) takes longer than scaling the small maps it makes.
LARGEST_KERNEL = 2**20


class FoldedConv2D(keras.layers.Layer):
    """Convolution followed by a batch norm that uses its stored statistics.

    Input `[B, H, W, C]`, output `[B, h, w, filters]`. Kernel and bias are scaled in float32, whatever the precision.

    Args:
        conv: Built convolution without activation.
        norm: Built batch norm.
    """

    def __init__(self, conv: keras.layers.Conv2D, norm: BatchNorm):
        super().__init__(name=f"{conv.name}_folded", dtype="float32", autocast=False)
        self.conv = conv
        self.norm = norm

    def call(self, inputs):
        dtype = self.conv.compute_dtype
        scale, shift = self.norm.scale_and_shift()
        outputs = self.conv.convolution_op(ops.cast(inputs, dtype), ops.cast(self.conv.kernel * scale, dtype))
        bias = self.conv.bias * scale + shift if self.conv.use_bias else shift
        return ops.add(outputs, ops.reshape(ops.cast(bias, dtype), (1, 1, 1, -1)))

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.conv.compute_output_shape(inputs.shape), self.conv.compute_dtype)


def fold_batch_norm(model: keras.Model, training: bool) -> keras.Model:
    """Returns a model with the same weights and results, with batch norm folded where that is faster.

    Args:
        model: Functional model.
        training: True if the returned model will be called with `training=True`.
    """

    def call(layer, *args, **kwargs):
        if isinstance(layer, BatchNorm) and not layer.uses_batch(training):
            history = args[0]._keras_history
            if _is_foldable(history.operation):
                node = history.operation._inbound_nodes[history.node_index]
                return FoldedConv2D(history.operation, layer)(node.input_tensors[0])
        return layer(*args, **kwargs)

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def _is_foldable(layer: Any) -> bool:
    # Subclasses compute something else.
    return (
        type(layer) is keras.layers.Conv2D
        and layer.activation is keras.activations.linear
        and layer.data_format == "channels_last"
        and math.prod(layer.kernel.shape) <= LARGEST_KERNEL
    )
