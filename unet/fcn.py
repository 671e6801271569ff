"""FCN-8s (Shelhamer, Long and Darrell, "Fully convolutional networks for semantic segmentation", 2017, section 4)."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from unet.config import UNetConfig
from unet.encoders import Skip


@keras.saving.register_keras_serializable("unet")
class Bilinear(keras.initializers.Initializer):
    """Initializer with which a transposed convolution interpolates bilinearly, each channel on its own.

    The kernel's side is twice the stride.
    """

    def __call__(self, shape, dtype=None, **kwargs):
        side, _, outputs, inputs = shape
        distance = np.abs(np.arange(side) - (side - 1) / 2) / (side // 2)
        kernel = np.zeros(shape, np.float32)
        for channel in range(min(outputs, inputs)):
            kernel[:, :, channel, channel] = np.outer(1 - distance, 1 - distance)
        return keras.ops.convert_to_tensor(kernel, dtype)


def fcn8s_decoder(skips: list[Skip], config: UNetConfig) -> Any:
    """Decoder of FCN-8s: scores at three strides, each upsampled and added to the next finer one.

    The scores of the coarsest features come behind two convolutions in the place of VGG16's fully connected layers.

    Args:
        skips: Features of the encoder, such as VGG16's poolings; the last three are used.
        config: Configuration with DECODER_FILTERS of the two convolutions, DROPOUT behind each, and ACTIVATION.

    Returns:
        Logits `[B, H, W, output channels]`.
    """
    finest, middle, coarsest = skips[-3:]
    x = coarsest.tensor
    for name, filters, size in zip(("decoder_fc6", "decoder_fc7"), config.decoder_filters, (7, 1), strict=True):
        x = layers.Conv2D(
            filters,
            size,
            padding="same",
            activation=config.ACTIVATION,
            kernel_initializer=config.KERNEL_INITIALIZER,
            name=name,
        )(x)
        x = layers.Dropout(config.dropout_rates[-1], name=f"{name}_dropout")(x)
    x = _scores(x, coarsest.stride, config)
    for skip in (middle, finest):
        x = _upsample(x, 2, f"decoder_{skip.stride}_up")
        x = layers.Add(name=f"decoder_{skip.stride}_add")([x, _scores(skip.tensor, skip.stride, config)])
    return _upsample(x, finest.stride, "logits")


def _scores(x: Any, stride: int, config: UNetConfig) -> Any:
    return layers.Conv2D(len(config.channels), 1, name=f"decoder_{stride}_score")(x)


def _upsample(x: Any, factor: int, name: str) -> Any:
    """Adds a learnt transposed convolution that begins as bilinear interpolation."""
    return layers.Conv2DTranspose(
        x.shape[-1],
        2 * factor,
        strides=factor,
        padding="same",
        use_bias=False,
        kernel_initializer=Bilinear(),
        name=name,
    )(x)
