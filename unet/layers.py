"""Building blocks of encoders and decoders: scaled pixels, convolutions with normalisation and activation, steps up."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops

from trainkit.batch_norm import BatchNorm
from trainkit.efficientnet_lite import PIXEL_MEAN, PIXEL_SCALE
from unet.config import UNetConfig

_SCHEMES = ("unit", "symmetric", "caffe", "lite")
# Mean of ImageNet, BGR in 0..255, that networks trained with Caffe expect subtracted.
_BGR_MEAN = (103.939, 116.779, 123.68)


@keras.saving.register_keras_serializable("unet")
class ScalePixels(layers.Layer):
    """Scales pixels to the range that the first convolution was trained on.

    Input: `[B, H, W, C]`, RGB in 0..255. Output: the same shape, in the layer's compute dtype.

    Args:
        scheme: Range of the output: "unit" 0..1, "symmetric" -1..1, "caffe" BGR minus ImageNet's mean, "lite" about
            -1..1, as EfficientNet-Lite expects it.

    Raises:
        ValueError: The scheme is unknown.
    """

    def __init__(self, scheme: str, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if scheme not in _SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(_SCHEMES)}. Received: {scheme!r}")
        self.scheme = scheme

    def call(self, inputs):
        """Scales pixels."""
        pixels = ops.cast(inputs, "float32")
        if self.scheme == "unit":
            scaled = pixels / 255.0
        elif self.scheme == "symmetric":
            scaled = pixels / 127.5 - 1.0
        elif self.scheme == "lite":
            scaled = (pixels - PIXEL_MEAN) / PIXEL_SCALE
        else:
            scaled = ops.flip(pixels, axis=-1) - ops.convert_to_tensor(_BGR_MEAN, "float32")
        return ops.cast(scaled, self.compute_dtype)

    def compute_output_spec(self, inputs):
        """Returns the output's shape, the input's, and dtype."""
        return keras.KerasTensor(inputs.shape, self.compute_dtype)

    def get_config(self):
        """Returns the arguments that make the same layer."""
        return {**super().get_config(), "scheme": self.scheme}


@keras.saving.register_keras_serializable("unet")
class SymmetricPadding(layers.Layer):
    """Adds the mirror image of the outermost cells on every side, the outermost ones included.

    Input: `[B, H, W, C]`. Output: `[B, H + 2 width, W + 2 width, C]`.

    Args:
        width: Number of cells added on each side, at most H and W.
    """

    def __init__(self, width: int, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def call(self, inputs):
        """Adds the mirror image."""
        x = inputs
        for axis in (1, 2):
            first, last = [slice(None)] * 4, [slice(None)] * 4
            first[axis], last[axis] = slice(None, self.width), slice(-self.width, None)
            before, after = ops.flip(x[tuple(first)], axis), ops.flip(x[tuple(last)], axis)
            x = ops.concatenate([before, x, after], axis=axis)
        return x

    def compute_output_spec(self, inputs):
        """Returns the output's shape and dtype."""
        batch, *sides, channels = inputs.shape
        grown = (side and side + 2 * self.width for side in sides)
        return keras.KerasTensor((batch, *grown, channels), inputs.dtype)

    def get_config(self):
        """Returns the arguments that make the same layer."""
        return {**super().get_config(), "width": self.width}


def convolution(x: Any, filters: int, size: int, config: UNetConfig, name: str, stride: int = 1) -> Any:
    """Adds a convolution padded as PADDING says, batch normalisation if configured, and the activation.

    Args:
        x: Features `[B, H, W, C]`.
        filters: Output channels.
        size: Side of the kernel in cells.
        config: Configuration with PADDING, BATCH_NORM, ACTIVATION and KERNEL_INITIALIZER.
        name: Name of the convolution, and prefix of the other layers' names.
        stride: Stride of the convolution in cells.

    Returns:
        `[B, H / stride, W / stride, filters]`.
    """
    x, padding = padded(x, size, config, name)
    options = {"padding": padding, "strides": stride, "kernel_initializer": config.KERNEL_INITIALIZER, "name": name}
    if not config.BATCH_NORM:
        return layers.Conv2D(filters, size, activation=config.ACTIVATION, **options)(x)
    x = layers.Conv2D(filters, size, use_bias=False, **options)(x)
    x = BatchNorm(name=f"{name}_bn")(x)
    return layers.Activation(config.ACTIVATION, name=f"{name}_act")(x)


def padded(x: Any, size: int, config: UNetConfig, name: str) -> tuple[Any, str]:
    """Adds the padding of a convolution that Keras does not do itself.

    Args:
        x: Features `[B, H, W, C]`.
        size: Side of the kernel in cells, odd.
        config: Configuration with PADDING.
        name: Prefix of the layer's name.

    Returns:
        (features, the convolution's argument `padding`).
    """
    if config.PADDING == "symmetric" and size > 1:
        return SymmetricPadding(size // 2, name=f"{name}_pad")(x), "valid"
    return x, "same"


def double_convolution(x: Any, filters: int, stride: int, config: UNetConfig, name: str) -> Any:
    """Adds two 3 x 3 convolutions with dropout between them: one level of a U-Net (Ronneberger et al. 2015, figure 1).

    Args:
        x: Features `[B, H, W, C]`.
        filters: Output channels of each convolution.
        stride: Stride of `x` in pixels, which chooses the rate of DROPOUT.
        config: Configuration with BATCH_NORM, ACTIVATION, KERNEL_INITIALIZER and DROPOUT.
        name: Prefix of the layers' names.

    Returns:
        `[B, H, W, filters]`.
    """
    x = convolution(x, filters, 3, config, f"{name}_conv1")
    rate = config.dropout_rates[int(math.log2(stride))]
    if rate:
        x = layers.Dropout(rate, name=f"{name}_dropout")(x)
    return convolution(x, filters, 3, config, f"{name}_conv2")


def up_convolution(x: Any, filters: int, config: UNetConfig, name: str) -> Any:
    """Adds a 2 x 2 transposed convolution with stride 2, and batch normalisation if configured.

    It is linear, as in Ronneberger et al. 2015, section 2.

    Args:
        x: Features `[B, H, W, C]`.
        filters: Output channels.
        config: Configuration with BATCH_NORM.
        name: Name of the convolution, and prefix of the batch normalisation.

    Returns:
        `[B, 2H, 2W, filters]`.
    """
    x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same", use_bias=not config.BATCH_NORM, name=name)(x)
    return BatchNorm(name=f"{name}_bn")(x) if config.BATCH_NORM else x
