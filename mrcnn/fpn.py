"""Feature pyramid P2…P6 (Lin et al. 2017, figure 3)."""

from __future__ import annotations

from typing import Any

from keras import layers


def build_pyramid(stages: list[Any], channels: int) -> list[Any]:
    """Builds the top-down pathway and its lateral connections (Lin et al. 2017, section 3).

    Args:
        stages: [C2, C3, C4, C5] with strides 4, 8, 16 and 32, each `[B, H, W, C]`.
        channels: Number of channels of every level (`Config.TOP_DOWN_PYRAMID_SIZE`).

    Returns:
        [P2, P3, P4, P5, P6] with strides 4 to 64, each `[B, H, W, channels]`. P6 serves the proposals only.
    """
    c2, c3, c4, c5 = stages
    top = layers.Conv2D(channels, 1, name="fpn_c5p5")(c5)
    merged = {5: top}
    for level, stage in ((4, c4), (3, c3), (2, c2)):
        upsampled = layers.UpSampling2D(2, name=f"fpn_p{level + 1}upsampled")(merged[level + 1])
        lateral = layers.Conv2D(channels, 1, name=f"fpn_c{level}p{level}")(stage)
        merged[level] = layers.Add(name=f"fpn_p{level}add")([upsampled, lateral])
    pyramid = [
        layers.Conv2D(channels, 3, padding="same", name=f"fpn_p{level}")(merged[level]) for level in (2, 3, 4, 5)
    ]
    # Every second cell of P5, as a pooling of size 1 would take.
    pyramid.append(layers.MaxPooling2D(1, strides=2, name="fpn_p6")(pyramid[-1]))
    return pyramid
