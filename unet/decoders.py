"""Decoders: from the encoder's features back to one value for each pixel and channel.

A decoder is a function of the list of `Skip` and the configuration to logits `[B, H, W, output channels]`, entered in
`unet.parts.DECODERS`. The names of its layers begin with `decoder_`, and its last layer is called `logits`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras import layers

from unet.config import UNetConfig
from unet.encoders import Skip
from unet.layers import convolution, double_convolution, padded, up_convolution


def plain_decoder(skips: list[Skip], config: UNetConfig) -> Any:
    """Decoder of transposed convolutions, each followed by the encoder's features beside it and two convolutions.

    Ronneberger et al. 2015, figure 1, zero-padded.
    """
    return _logits(_step_up(skips, config, double_convolution)[0].tensor, config)


def inception_se_decoder(skips: list[Skip], config: UNetConfig) -> Any:
    """Plain decoder with an Inception-like module and squeeze-and-excitation at each level.

    Rocha de Andrade, "Nuclei detection based on fully convolutional networks", section 5.2.3 and figure 3.
    """
    return _logits(_step_up(skips, config, inception_se_block)[0].tensor, config)


def fpn_decoder(skips: list[Skip], config: UNetConfig) -> Any:
    """Plain decoder, followed by a way down through its levels and a way up without the encoder.

    Vuola, "Nuclei segmentation using computer vision", 2019, section 4.1: the largest map is halved and added to the
    next one, the sum is convolved, and so on to the resolution of the bottleneck; the result is brought back by
    transposed convolutions. Here the bottleneck joins by a 1 x 1 convolution to twice the filters of the level above
    it, and a 3 x 3 convolution follows each transposed one, since that alone does not look beyond its cell.
    """
    ascent = _step_up(skips, config, double_convolution)
    bottom, widest = skips[-1], 2 * config.decoder_filters[0]
    lateral = convolution(bottom.tensor, widest, 1, config, "decoder_fpn_lateral")
    x = ascent[0].tensor
    for level in (*ascent[1:], Skip(bottom.stride, lateral)):
        name, filters = f"decoder_fpn_{level.stride}", level.tensor.shape[-1]
        x = convolution(x, filters, 3, config, f"{name}_down", stride=2)
        x = layers.Add(name=f"{name}_add")([x, level.tensor])
        x = convolution(x, filters, 3, config, f"{name}_conv")
    stride = bottom.stride
    for filters in config.decoder_filters:
        stride //= 2
        x = up_convolution(x, filters, config, f"decoder_top_{stride}_up")
        x = convolution(x, filters, 3, config, f"decoder_top_{stride}_conv")
    return _logits(x, config)


def inception_se_block(x: Any, filters: int, stride: int, config: UNetConfig, name: str) -> Any:
    """Parallel 1 x 1, 3 x 3 and 5 x 5 convolutions, the larger ones behind a 1 x 1 that narrows, then excitation.

    The branches have 2, 4 and 2 eighths of the filters, behind 3 and 1 eighths, about the shares in Szegedy et al.
    ("Going deeper with convolutions", 2015, table 1).

    Args:
        x: Features `[B, H, W, C]`.
        filters: Output channels, a multiple of 8.
        stride: Stride of `x` in pixels; not used.
        config: Configuration of activation, batch normalisation and SE_RATIO.
        name: Prefix of the layers' names.

    Returns:
        `[B, H, W, filters]`.
    """
    unit = filters // 8
    branches = [convolution(x, 2 * unit, 1, config, f"{name}_1x1")]
    for size, narrow, wide in ((3, 3 * unit, 4 * unit), (5, unit, 2 * unit)):
        branch = convolution(x, narrow, 1, config, f"{name}_{size}x{size}_reduce")
        branches.append(convolution(branch, wide, size, config, f"{name}_{size}x{size}"))
    x = layers.Concatenate(name=f"{name}_branches")(branches)
    return squeeze_and_excite(x, config.SE_RATIO, f"{name}_se")


def squeeze_and_excite(x: Any, ratio: int, name: str) -> Any:
    """Scales each channel by a factor in 0..1 computed from the means of all channels (Hu et al. 2018, section 3).

    Computed in float32 except for the product: a mean over a whole image does not fit 16 bits.

    Args:
        x: Features `[B, H, W, C]`.
        ratio: C over the channels of the squeezed layer, which are one at least.
        name: Prefix of the layers' names.

    Returns:
        `[B, H, W, C]`.
    """
    channels = x.shape[-1]
    factor = layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name=f"{name}_squeeze")(x)
    narrow = max(1, channels // ratio)
    factor = layers.Dense(narrow, activation="relu", dtype="float32", name=f"{name}_reduce")(factor)
    factor = layers.Dense(channels, activation="sigmoid", dtype="float32", name=f"{name}_excite")(factor)
    return layers.Multiply(name=f"{name}_scale")([x, factor])


def _step_up(skips: list[Skip], config: UNetConfig, block: Callable[..., Any]) -> list[Skip]:
    """Doubles the resolution from the bottleneck to the image's; returns the features of each step, the largest first.

    A step has the encoder's features of its stride beside it if the encoder has any: encoders that begin by halving
    the image have none at stride 1.
    """
    beside = {skip.stride: skip.tensor for skip in skips}
    x, stride = skips[-1].tensor, skips[-1].stride
    steps = []
    for filters in config.decoder_filters:
        stride //= 2
        name = f"decoder_{stride}"
        x = up_convolution(x, filters, config, f"{name}_up")
        if stride in beside:
            x = layers.Concatenate(name=f"{name}_concat")([x, beside[stride]])
        x = block(x, filters, stride, config, name)
        steps.insert(0, Skip(stride, x))
    return steps


def _logits(x: Any, config: UNetConfig) -> Any:
    x, padding = padded(x, config.LOGITS_SIZE, config, "logits")
    return layers.Conv2D(len(config.channels), config.LOGITS_SIZE, padding=padding, name="logits")(x)
