"""A light backbone that trains from random weights on a CPU, in place of a ResNet-50."""

from __future__ import annotations

from typing import Any

from keras import layers

from mrcnn.layers import BatchNorm

_STEM_FILTERS = 32
# Filters and residual blocks of the stages 2 to 5.
_STAGES = ((48, 2), (96, 2), (192, 2), (256, 2))


def small_resnet(input_image: Any, stage5: bool = True, train_bn: bool | None = None) -> list[Any]:
    """Builds a ten-layer-deep relative of ResNet-18 (He et al. 2016, table 1) with narrow stages.

    Args:
        input_image: `[B, H, W, C]`, H and W multiples of 32.
        stage5: True to build C5.
        train_bn: See `Config.TRAIN_BN`.

    Returns:
        [C1, C2, C3, C4, C5] with strides 4, 4, 8, 16 and 32; C5 is None without `stage5`.
    """
    x = layers.Conv2D(_STEM_FILTERS, 5, strides=2, padding="same", use_bias=False, name="conv1")(input_image)
    x = BatchNorm(train_bn, name="bn_conv1")(x)
    x = layers.Activation("relu", name="conv1_relu")(x)
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="pool1")(x)
    stages = [x]
    for stage, (filters, blocks) in enumerate(_STAGES, start=2):
        if stage == 5 and not stage5:
            stages.append(None)
            break
        for index in range(blocks):
            stride = 2 if index == 0 and stage > 2 else 1
            x = _basic_block(x, filters, f"{stage}{chr(ord('a') + index)}", stride, index == 0, train_bn)
        stages.append(x)
    return stages


def _basic_block(inputs: Any, filters: int, name: str, stride: int, project: bool, train_bn: bool | None) -> Any:
    conv, norm = f"res{name}_branch", f"bn{name}_branch"
    x = layers.Conv2D(filters, 3, strides=stride, padding="same", use_bias=False, name=conv + "2a")(inputs)
    x = BatchNorm(train_bn, name=norm + "2a")(x)
    x = layers.Activation("relu", name=conv + "2a_relu")(x)
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, name=conv + "2b")(x)
    x = BatchNorm(train_bn, name=norm + "2b")(x)
    shortcut = inputs
    if project:
        shortcut = layers.Conv2D(filters, 1, strides=stride, use_bias=False, name=conv + "1")(inputs)
        shortcut = BatchNorm(train_bn, name=norm + "1")(shortcut)
    x = layers.Add(name=f"res{name}_add")([x, shortcut])
    return layers.Activation("relu", name=f"res{name}_out")(x)
