"""Painting into the pixels of an image: masks, boxes, and colours for them. No figure of matplotlib is opened."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib.colors import to_rgb

Color = Any  # Colour of matplotlib: a name, or red, green, blue (and alpha) in 0..1.


def random_colors(N: int, bright: bool = True) -> list[tuple[float, float, float]]:
    """Returns distinct colours of evenly spaced hues in random order.

    Args:
        N: Number of colours.
        bright: False darkens them.

    Returns:
        N tuples (red, green, blue) in 0..1, in an order drawn from Python's global `random`.
    """
    colors = [colorsys.hsv_to_rgb(i / N, 1, 1.0 if bright else 0.7) for i in range(N)]
    random.shuffle(colors)
    return colors


def apply_mask(image: np.ndarray, mask: np.ndarray, color: Color, alpha: float = 0.5) -> np.ndarray:
    """Tints the pixels of a mask, in place.

    Args:
        image: `[H, W, 3]`, values 0 to 255; changed.
        mask: `[H, W]`, 1 or True for pixels to tint.
        color: matplotlib colour; its alpha is ignored.
        alpha: Weight of the colour in 0..1.

    Returns:
        The changed `image`.
    """
    inside = np.asarray(mask) == 1
    image[inside] = image[inside] * (1 - alpha) + alpha * 255 * np.array(to_rgb(color))
    return image


def draw_box(image: np.ndarray, box: Sequence[int], color: Sequence[int]) -> np.ndarray:
    """Draws a box into an image, in place, with lines two pixels wide.

    Args:
        image: uint8 `[H, W, 3]`; changed.
        box: (y1, x1, y2, x2) in pixels.
        color: (red, green, blue) in 0..255.

    Returns:
        The changed `image`.
    """
    y1, x1, y2, x2 = (int(side) for side in box)
    drawn = image if image.flags.c_contiguous else np.ascontiguousarray(image)
    cv2.rectangle(drawn, (x1, y1), (x2, y2), color=[int(value) for value in color], thickness=2)
    if drawn is not image:
        image[...] = drawn
    return image
