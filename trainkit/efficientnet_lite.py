"""EfficientNet-Lite0 without its classifier: features at strides 2 to 32 for an encoder or a backbone.

EfficientNet (Tan and Le, "EfficientNet: rethinking model scaling for convolutional neural networks", 2019, table 1)
without squeeze-and-excitation and with ReLU6 in place of swish, as Google published it for small devices
("EfficientNet-Lite", 2020). Its blocks are the inverted residuals of MobileNetV2 (Sandler et al. 2018, figure 4b).
Padding is that of TensorFlow: with an even input, a stride of 2 pads below and to the right only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import layers

from trainkit.batch_norm import BatchNorm

# The network expects (pixels - 127) / 128 of RGB in 0..255.
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0
BATCH_NORM_EPSILON = 1e-3
_STEM_FILTERS = 32


class _Stage(NamedTuple):
    """One row of the network's table.

    Attributes:
        blocks: Number of inverted residuals.
        kernel: Side of the depthwise kernels.
        stride: Stride of the first block.
        expansion: Channels of the depthwise convolution over those of the block's input.
        filters: Output channels of every block.
    """

    blocks: int
    kernel: int
    stride: int
    expansion: int
    filters: int


_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)


def efficientnet_lite0_features(x: Any, batch_norm: Callable[..., Any] = BatchNorm) -> dict[int, Any]:
    """Builds EfficientNet-Lite0 without its last convolution and its classifier.

    Args:
        x: `[B, H, W, 3]`, RGB as (pixels - `PIXEL_MEAN`) / `PIXEL_SCALE`, H and W multiples of 32.
        batch_norm: Function from `epsilon` and `name` to a batch normalisation layer, for a model that freezes it.

    Returns:
        Stride -> the last features with that stride, outputs of a linear projection: 2 (16 channels), 4 (24), 8 (40),
        16 (112), 32 (320).
    """
    x = _normalised_convolution(x, _STEM_FILTERS, 3, 2, "stem", batch_norm)
    x = layers.ReLU(6.0, name="stem_act")(x)
    features, stride = {}, 2
    for number, stage in enumerate(_STAGES, start=1):
        for index in range(stage.blocks):
            step = stage.stride if index == 0 else 1
            x = _inverted_residual(x, stage, step, f"block{number}{chr(ord('a') + index)}", batch_norm)
            stride *= step
        features[stride] = x
    return features


def _inverted_residual(x: Any, stage: _Stage, stride: int, name: str, batch_norm: Callable[..., Any]) -> Any:
    """Widens, filters each channel, and projects back; with a shortcut where the shape stays."""
    shortcut, channels = x, x.shape[-1]
    if stage.expansion > 1:
        x = _normalised_convolution(x, channels * stage.expansion, 1, 1, f"{name}_expand", batch_norm)
        x = layers.ReLU(6.0, name=f"{name}_expand_act")(x)
    x = layers.DepthwiseConv2D(stage.kernel, strides=stride, padding="same", use_bias=False, name=f"{name}_depthwise")(
        x
    )
    x = batch_norm(epsilon=BATCH_NORM_EPSILON, name=f"{name}_depthwise_bn")(x)
    x = layers.ReLU(6.0, name=f"{name}_depthwise_act")(x)
    x = _normalised_convolution(x, stage.filters, 1, 1, f"{name}_project", batch_norm)
    if stride == 1 and channels == stage.filters:
        x = layers.Add(name=f"{name}_add")([x, shortcut])
    return x


def _normalised_convolution(
    x: Any, filters: int, size: int, stride: int, name: str, batch_norm: Callable[..., Any]
) -> Any:
    x = layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False, name=f"{name}_conv")(x)
    return batch_norm(epsilon=BATCH_NORM_EPSILON, name=f"{name}_conv_bn")(x)
