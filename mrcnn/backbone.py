"""Stages C2…C5 for the feature pyramid: of ResNet-50 and -101 (He et al. 2016), and of EfficientNet-Lite0.

Weights files find layers by name: those of the ResNets have the lineage's names (`conv1`, `res4f_branch2b`,
`bn4f_branch2b`, …), those of EfficientNet-Lite0 `trainkit.efficientnet_lite`'s (`stem_conv`, `block5c_expand_conv`, …).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from keras import layers

from mrcnn.layers import BatchNorm
from trainkit.efficientnet_lite import PIXEL_MEAN, PIXEL_SCALE, efficientnet_lite0_features

# Numbers of blocks in the stages 2 to 5 (He et al. 2016, table 1), and filters of their first two convolutions.
BLOCKS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}
FILTERS = (64, 128, 256, 512)


def bottleneck(inputs: Any, filters: int, stage: int, block: str, stride: int, project: bool, train_bn: Any) -> Any:
    """Builds a bottleneck block, 1x1, 3x3 and 1x1 convolutions beside a shortcut (He et al. 2016, figure 5 right).

    Args:
        inputs: `[B, H, W, C]`.
        filters: Number of filters of the first two convolutions; the last has four times as many.
        stage: Number of the stage in layer names, 2 to 5.
        block: Letter of the block in layer names, from "a" on.
        stride: Stride of the first convolution and of the shortcut.
        project: True makes the shortcut a 1x1 convolution, as the first block of a stage needs.
        train_bn: Mode of batch normalisation, see `Config.TRAIN_BN`.

    Returns:
        `[B, H / stride, W / stride, 4 · filters]`.
    """
    conv, norm = f"res{stage}{block}_branch", f"bn{stage}{block}_branch"
    x = layers.Conv2D(filters, 1, strides=stride, name=conv + "2a")(inputs)
    x = BatchNorm(train_bn, name=norm + "2a")(x)
    x = layers.Activation("relu", name=conv + "2a_relu")(x)
    x = layers.Conv2D(filters, 3, padding="same", name=conv + "2b")(x)
    x = BatchNorm(train_bn, name=norm + "2b")(x)
    x = layers.Activation("relu", name=conv + "2b_relu")(x)
    x = layers.Conv2D(4 * filters, 1, name=conv + "2c")(x)
    x = BatchNorm(train_bn, name=norm + "2c")(x)
    shortcut = inputs
    if project:
        shortcut = layers.Conv2D(4 * filters, 1, strides=stride, name=conv + "1")(inputs)
        shortcut = BatchNorm(train_bn, name=norm + "1")(shortcut)
    x = layers.Add(name=f"res{stage}{block}_add")([x, shortcut])
    return layers.Activation("relu", name=f"res{stage}{block}_out")(x)


def resnet_graph(input_image: Any, architecture: str, stage5: bool = False, train_bn: bool | None = True) -> list[Any]:
    """Builds a ResNet without its classifier (He et al. 2016, table 1).

    Args:
        input_image: `[B, H, W, C]`, H and W multiples of 32.
        architecture: "resnet50" or "resnet101".
        stage5: False leaves C5 out.
        train_bn: Mode of batch normalisation, see `Config.TRAIN_BN`.

    Returns:
        [C1, C2, C3, C4, C5], the last activation of each stage with strides 4, 4, 8, 16 and 32; C5 is None without
        `stage5`.

    Raises:
        ValueError: The architecture is unknown.
    """
    if architecture not in BLOCKS:
        raise ValueError(f"architecture must be one of {sorted(BLOCKS)}. Received: {architecture!r}")
    x = layers.ZeroPadding2D(3, name="conv1_pad")(input_image)
    x = layers.Conv2D(64, 7, strides=2, name="conv1")(x)
    x = BatchNorm(train_bn, name="bn_conv1")(x)
    x = layers.Activation("relu", name="conv1_relu")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    stages = [x]
    for stage, (blocks, filters) in enumerate(zip(BLOCKS[architecture], FILTERS, strict=True), start=2):
        if stage == 5 and not stage5:
            stages.append(None)
            break
        for index in range(blocks):
            first = index == 0
            stride = 2 if first and stage > 2 else 1
            x = bottleneck(x, filters, stage, chr(ord("a") + index), stride, first, train_bn)
        stages.append(x)
    return stages


def efficientnet_lite0_graph(image: Any, stage5: bool = True, train_bn: bool | None = False) -> list[Any]:
    """Builds EfficientNet-Lite0 without its classifier; see `trainkit.efficientnet_lite`.

    Args:
        image: `[B, H, W, 3]` from `lite_pixels`, H and W multiples of 32.
        stage5: False leaves C5 out.
        train_bn: Mode of batch normalisation, see `Config.TRAIN_BN`.

    Returns:
        [C1, C2, C3, C4, C5] with strides 2 (16 channels), 4 (24), 8 (40), 16 (112) and 32 (320); C5 is None without
        `stage5`.
    """
    *stages, last = efficientnet_lite0_features(image, partial(BatchNorm, train_bn)).values()
    return [*stages, last if stage5 else None]


def lite_pixels(image: Any, mean_pixel: Any) -> Any:
    """Scales the network's input to what EfficientNet-Lite0 expects, whatever mean colour was subtracted.

    Args:
        image: `[B, H, W, C]`, pixels in 0..255, RGB, minus `mean_pixel`.
        mean_pixel: `[C]` or one number for all channels, `Config.MEAN_PIXEL`.

    Returns:
        float32 `[B, H, W, C]`, (pixels - 127) / 128.
    """
    offset = (np.ravel(mean_pixel) - PIXEL_MEAN) / PIXEL_SCALE
    # In float32 also under mixed precision: 8 bits are too few for pixels that a mean was subtracted from.
    return layers.Rescaling(1 / PIXEL_SCALE, offset.tolist(), dtype="float32", name="scale_pixels")(image)
