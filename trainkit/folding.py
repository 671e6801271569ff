"""Batch norm with stored statistics, folded into the convolution before it.

Such a batch norm is one factor and one summand per channel: scaling the kernel instead of the map saves several passes
over the largest arrays of the network, forward and backward (Jacob et al. 2018, section 3.2). The weights stay where
they are, in layers of their old names, and learn as before.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

# Layers of keras that are folded, exactly these: subclasses compute something else.
_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Conv2DTranspose)
# Scaling a kernel with more weights (those of a ResNet's stage 5) takes longer than scaling the small maps it makes.
LARGEST_KERNEL = 2**20


class FoldedConvolution(keras.layers.Layer):
    """Convolution followed by a batch norm that uses its stored statistics.

    Input `[B, H, W, C]`, output `[B, h, w, filters]`. Kernel and bias are scaled in float32, whatever the precision.

    Args:
        conv: Built convolution without activation, plain, depthwise or transposed.
        norm: Built batch norm.
    """

    def __init__(self, conv: keras.layers.Layer, norm: keras.layers.Layer):
        super().__init__(name=f"{conv.name}_folded", dtype="float32", autocast=False)
        self.conv = conv
        self.norm = norm

    def call(self, inputs):
        dtype = self.conv.compute_dtype
        scale, shift = stored_vectors(self.norm)
        kernel = self.conv.kernel * _along_kernel(self.conv, scale)
        outputs = _convolve(self.conv, ops.cast(inputs, dtype), ops.cast(kernel, dtype))
        bias = self.conv.bias * scale + shift if self.conv.use_bias else shift
        return ops.add(outputs, ops.reshape(ops.cast(bias, dtype), (1, 1, 1, -1)))

    def compute_output_spec(self, inputs):
        return keras.KerasTensor(self.conv.compute_output_shape(inputs.shape), self.conv.compute_dtype)


def stored_vectors(norm: keras.layers.BatchNormalization) -> tuple[Any, Any]:
    """Computes factor and summand of every channel from the stored statistics, each float32 `[C]`.

    Args:
        norm: Built batch norm with gamma and beta.
    """
    scale = norm.gamma * ops.rsqrt(norm.moving_variance + norm.epsilon)
    return scale, norm.beta - norm.moving_mean * scale


def fold_batch_norm(
    model: keras.Model,
    uses_stored: Callable[[keras.layers.BatchNormalization], bool] = lambda norm: True,
) -> keras.Model:
    """Returns a model with the same weights and results, with batch norm folded where that is faster.

    Args:
        model: Functional model; it stays as it is.
        uses_stored: Function from a batch norm to True if it uses its stored statistics in the way that the returned
            model will be called; by default all do, as in inference.
    """

    def call(layer, *args, **kwargs):
        if isinstance(layer, keras.layers.BatchNormalization) and uses_stored(layer):
            history = args[0]._keras_history
            if _is_foldable(history.operation, layer):
                node = history.operation._inbound_nodes[history.node_index]
                return FoldedConvolution(history.operation, layer)(node.input_tensors[0])
        return layer(*args, **kwargs)

    return keras.models.clone_model(model, clone_function=lambda layer: layer, call_function=call)


def _is_foldable(layer: Any, norm: keras.layers.BatchNormalization) -> bool:
    return (
        type(layer) in _CONVOLUTIONS
        and layer.activation is keras.activations.linear
        and layer.data_format == "channels_last"
        and math.prod(layer.kernel.shape) <= LARGEST_KERNEL
        and norm.scale
        and norm.center
        and norm.axis in (-1, 3)
    )


def _along_kernel(conv: keras.layers.Layer, scale: Any) -> Any:
    """Returns a factor of every output channel in a shape that multiplies the kernel."""
    if type(conv) is keras.layers.DepthwiseConv2D:
        return ops.reshape(scale, (-1, conv.depth_multiplier))
    if type(conv) is keras.layers.Conv2DTranspose:
        return ops.reshape(scale, (-1, 1))
    return scale


def _convolve(conv: keras.layers.Layer, inputs: Any, kernel: Any) -> Any:
    if type(conv) is keras.layers.DepthwiseConv2D:
        return ops.depthwise_conv(inputs, kernel, conv.strides, conv.padding, conv.data_format, conv.dilation_rate)
    if type(conv) is keras.layers.Conv2DTranspose:
        return ops.conv_transpose(
            inputs, kernel, conv.strides, conv.padding, conv.output_padding, conv.data_format, conv.dilation_rate
        )
    return conv.convolution_op(inputs, kernel)
