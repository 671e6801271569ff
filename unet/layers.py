"""What encoders and decoders are made of: scaled pixels, convolutions with what follows them, steps up."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import layers, ops

from trainkit.batch_norm import BatchNorm
from trainkit.efficientnet_lite import PIXEL_MEAN, PIXEL_SCALE
from unet.config import UNetConfig

_SCHEMES = ("unit", "symmetric", "caffe", "lite")
# ImageNet's mean, BGR, as the networks trained with Caffe expect it subtracted.
_BGR_MEAN = (103.939, 116.779, 123.68)


@keras.saving.register_keras_serializable("unet")
class ScalePixels(layers.Layer):
    """Brings pixels to what the first convolution was trained on.

    Input `[B, H, W, C]`, RGB in 0..255. Output of the same shape.

    Args:
        scheme: "unit" gives 0..1, "symmetric" -1..1, "caffe" BGR without ImageNet's mean, "lite" what EfficientNet-Lite
            expects, about -1..1.
    """

    def __init__(self, scheme: str, **kwargs):
        super().__init__(autocast=False, **kwargs)
        if scheme not in _SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(_SCHEMES)}. Received: {scheme!r}")
        self.scheme = scheme

    def call(self, inputs):
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
        return keras.KerasTensor(inputs.shape, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "scheme": self.scheme}


def convolution(x: Any, filters: int, size: int, config: UNetConfig, name: str, stride: int = 1) -> Any:
    """A zero-padded convolution, batch norm if the configuration has it, and its activation.

    Args:
        x: `[B, H, W, C]`.
        filters: Output channels.
        size: Side of the kernel.
        config: BATCH_NORM, ACTIVATION, KERNEL_INITIALIZER.
        name: Of the convolution; what follows it has a suffix.
        stride: Of the convolution.

    Returns:
        `[B, H / stride, W / stride, filters]`.
    """
    options = {"padding": "same", "strides": stride, "kernel_initializer": config.KERNEL_INITIALIZER, "name": name}
    if not config.BATCH_NORM:
        return layers.Conv2D(filters, size, activation=config.ACTIVATION, **options)(x)
    x = layers.Conv2D(filters, size, use_bias=False, **options)(x)
    x = BatchNorm(name=f"{name}_bn")(x)
    return layers.Activation(config.ACTIVATION, name=f"{name}_act")(x)


def double_convolution(x: Any, filters: int, stride: int, config: UNetConfig, name: str) -> Any:
    """Two 3 x 3 convolutions with dropout between them: one level of a U-Net (Ronneberger et al. 2015, figure 1).

    Args:
        x: `[B, H, W, C]`.
        filters: Of both.
        stride: Pixels a cell of `x`, which chooses the rate of DROPOUT.
        config: The configuration.
        name: Prefix of the layers.

    Returns:
        `[B, H, W, filters]`.
    """
    x = convolution(x, filters, 3, config, f"{name}_conv1")
    rate = config.dropout_rates[int(math.log2(stride))]
    if rate:
        x = layers.Dropout(rate, name=f"{name}_dropout")(x)
    return convolution(x, filters, 3, config, f"{name}_conv2")


def up_convolution(x: Any, filters: int, config: UNetConfig, name: str) -> Any:
    """A 2 x 2 transposed convolution with stride 2, linear as in the U-Net's paper, with batch norm if configured.

    Args:
        x: `[B, H, W, C]`.
        filters: Output channels.
        config: BATCH_NORM.
        name: Of the convolution.

    Returns:
        `[B, 2H, 2W, filters]`.
    """
    x = layers.Conv2DTranspose(filters, 2, strides=2, padding="same", use_bias=not config.BATCH_NORM, name=name)(x)
    return BatchNorm(name=f"{name}_bn")(x) if config.BATCH_NORM else x
