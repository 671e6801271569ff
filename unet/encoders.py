"""Encoders: from an image to features at falling resolution.

An encoder is a function of the image `[B, H, W, C]` in 0..255 and the configuration, entered in
`unet.parts.ENCODERS`. Its list of `Skip`, one for each stride in rising order, is all that a decoder sees of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from trainkit.efficientnet_lite import efficientnet_lite0_features
from unet.config import UNetConfig
from unet.layers import ScalePixels, convolution, double_convolution
from unet.xception import xception_features


@dataclass(frozen=True)
class Skip:
    """Features that an encoder hands over.

    Attributes:
        stride: Stride of the features in pixels of the image, a power of two.
        tensor: Features `[B, H / stride, W / stride, C]`.
    """

    stride: int
    tensor: Any


def plain_encoder(image: Any, config: UNetConfig) -> list[Skip]:
    """Encoder of two convolutions at each level and a pooling between levels (Ronneberger et al. 2015, figure 1).

    Returns:
        One `Skip` for each of ENCODER_FILTERS, with strides 1, 2, 4, …
    """
    x = ScalePixels("unit", name="scale_pixels")(image)
    skips = []
    for level, filters in enumerate(config.ENCODER_FILTERS):
        stride = 2**level
        if skips:
            x = layers.MaxPooling2D(2, name=f"encoder_{stride}_pool")(x)
        x = double_convolution(x, filters, stride, config, f"encoder_{stride}")
        skips.append(Skip(stride, x))
    return skips


def xception_encoder(image: Any, config: UNetConfig) -> list[Skip]:
    """Xception with strides 2 to 32; see `unet.xception`."""
    features = xception_features(ScalePixels("symmetric", name="scale_pixels")(image))
    return [Skip(stride, tensor) for stride, tensor in features.items()]


def resnet50_encoder(image: Any, config: UNetConfig) -> list[Skip]:
    """ResNet-50 of keras.applications, with strides 2 to 32."""
    return _resnet(keras.applications.ResNet50, (3, 4, 6, 3), image)


def resnet101_encoder(image: Any, config: UNetConfig) -> list[Skip]:
    """ResNet-101 of keras.applications, with strides 2 to 32."""
    return _resnet(keras.applications.ResNet101, (3, 4, 23, 3), image)


def resnet152_encoder(image: Any, config: UNetConfig) -> list[Skip]:
    """ResNet-152 of keras.applications, with strides 2 to 32."""
    return _resnet(keras.applications.ResNet152, (3, 8, 36, 3), image)


def vgg16_encoder(image: Any, config: UNetConfig) -> list[Skip]:
    """VGG16 of keras.applications (Simonyan and Zisserman 2015): the features behind its five poolings.

    Returns:
        Features with strides 2 (64 channels), 4 (128), 8 (256), 16 (512) and 32 (512).
    """
    return _published(keras.applications.VGG16, image, [f"block{block}_pool" for block in range(1, 6)])


def efficientnet_lite0_encoder(image: Any, config: UNetConfig) -> list[Skip]:
    """EfficientNet-Lite0; see `trainkit.efficientnet_lite`. Strides 2 to 32."""
    features = efficientnet_lite0_features(ScalePixels("lite", name="scale_pixels")(image))
    return [Skip(stride, tensor) for stride, tensor in features.items()]


def image_skip(image: Any, config: UNetConfig) -> Skip:
    """Features of the image at its own size, for encoders that begin by halving it: one 3 x 3 convolution.

    Its layers are named as the decoder's are: pretrained encoders do not have it.

    Args:
        image: `[B, H, W, C]` in 0..255.
        config: IMAGE_SKIP_FILTERS.
    """
    pixels = ScalePixels("unit", name="decoder_image_scale")(image)
    return Skip(1, convolution(pixels, config.IMAGE_SKIP_FILTERS, 3, config, "decoder_image_conv"))


def _resnet(build: Callable[..., keras.Model], blocks: tuple[int, ...], image: Any) -> list[Skip]:
    """Builds a ResNet (He et al. 2016, table 1): the features of its first activation and of each stage's end.

    Args:
        build: Function of keras.applications.
        blocks: Number of blocks of stages 2 to 5.
        image: `[B, H, W, 3]` in 0..255, RGB.

    Returns:
        Features with strides 2 (64 channels), 4 (256), 8 (512), 16 (1024) and 32 (2048).
    """
    ends = [f"conv{stage}_block{count}_out" for stage, count in enumerate(blocks, start=2)]
    return _published(build, image, ["conv1_relu", *ends])


def _published(build: Callable[..., keras.Model], image: Any, names: list[str]) -> list[Skip]:
    """Builds a network of keras.applications on an image; returns the outputs of named layers, of strides 2, 4, 8, …"""
    pixels = ScalePixels("caffe", name="scale_pixels")(image)
    network = build(include_top=False, weights=None, input_tensor=pixels)
    return [Skip(2**level, network.get_layer(name).output) for level, name in enumerate(names, start=1)]
