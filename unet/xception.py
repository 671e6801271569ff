"""Xception (Chollet 2017, figure 5) as an encoder: every convolution padded, so that each stride halves the size.

The first two convolutions of the published network are not padded. Here they are, which changes no weight (Rocha de
Andrade, "Nuclei detection based on fully convolutional networks", section 5.2.2). Layers have the names they have in
keras.applications; the four shortcut convolutions, which have none there, are called `block<n>_shortcut`.
"""

from __future__ import annotations

from typing import Any

from keras import layers

from trainkit.batch_norm import BatchNorm

# Blocks that halve the resolution -> channels of their two separable convolutions.
_ENTRY = {2: (128, 128), 3: (256, 256), 4: (728, 728)}
_MIDDLE = range(5, 13)
_MIDDLE_CHANNELS = 728
_EXIT_BLOCK, _EXIT_CHANNELS = 13, (728, 1024)
_LAST_BLOCK, _LAST_CHANNELS = 14, (1536, 2048)


def xception_features(x: Any) -> dict[int, Any]:
    """Builds Xception without its classifier.

    Args:
        x: Image `[B, H, W, 3]`, RGB in -1..1, H and W multiples of 32.

    Returns:
        Last features of each stride, by stride in pixels: 2 (64 channels), 4 (128), 8 (256), 16 (728), 32 (2048).
        Features with strides 4, 8 and 16 are sums of a block and its shortcut.
    """
    features = {}
    for index, (filters, stride) in enumerate(((32, 2), (64, 1)), start=1):
        name = f"block1_conv{index}"
        x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False, name=name)(x)
        x = BatchNorm(name=f"{name}_bn")(x)
        x = layers.Activation("relu", name=f"{name}_act")(x)
    features[2] = x
    for block, channels in _ENTRY.items():
        x = _halving_block(x, block, channels)
        features[2**block] = x
    for block in _MIDDLE:
        shortcut = x
        for index in (1, 2, 3):
            x = _activated_separable(x, _MIDDLE_CHANNELS, f"block{block}_sepconv{index}")
        x = layers.Add(name=f"block{block}_add")([x, shortcut])
    features[16] = x
    x = _halving_block(x, _EXIT_BLOCK, _EXIT_CHANNELS)
    for index, filters in enumerate(_LAST_CHANNELS, start=1):
        name = f"block{_LAST_BLOCK}_sepconv{index}"
        x = layers.Activation("relu", name=f"{name}_act")(_separable(x, filters, name))
    features[32] = x
    return features


def _halving_block(x: Any, block: int, channels: tuple[int, int]) -> Any:
    """Adds two separable convolutions and a pooling beside a 1 x 1 convolution of stride 2."""
    name = f"block{block}_shortcut"
    shortcut = layers.Conv2D(channels[1], 1, strides=2, padding="same", use_bias=False, name=name)(x)
    shortcut = BatchNorm(name=f"{name}_bn")(shortcut)
    for index, filters in enumerate(channels, start=1):
        name = f"block{block}_sepconv{index}"
        # Block 2 follows an activation.
        x = _separable(x, filters, name) if (block, index) == (2, 1) else _activated_separable(x, filters, name)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"block{block}_pool")(x)
    return layers.Add(name=f"block{block}_add")([x, shortcut])


def _activated_separable(x: Any, filters: int, name: str) -> Any:
    return _separable(layers.Activation("relu", name=f"{name}_act")(x), filters, name)


def _separable(x: Any, filters: int, name: str) -> Any:
    x = layers.SeparableConv2D(filters, 3, padding="same", use_bias=False, name=name)(x)
    return BatchNorm(name=f"{name}_bn")(x)
