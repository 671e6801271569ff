"""Painting on arrays: masks and boxes of any number of channels, and distinct colours."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from matplotlib.colors import to_rgb

# Weights of red, green and blue in luminance (Rec. 601).
_LUMINANCE = np.array([0.299, 0.587, 0.114])

Color = Any  # Colour of matplotlib: a name, or red, green, blue (and alpha) in 0..1.


def check_displayable(image: np.ndarray) -> np.ndarray:
    """Returns an image as an array.

    Raises:
        ValueError: The image is neither grey nor RGB nor RGBA, or has no pixels.
    """
    image = np.asarray(image)
    channels = image.shape[2] if image.ndim == 3 else 1
    if image.ndim not in (2, 3) or channels not in (1, 3, 4) or not image.size:
        raise ValueError(
            f"Expected an image [H, W] or [H, W, C] with 1 (grey), 3 (RGB) or 4 (RGBA) channels; choose among others, "
            f"as image[..., :3]. Received: shape {image.shape}"
        )
    return image


def displayable(image: np.ndarray) -> np.ndarray:
    """Returns an image as float32 `[H, W, 3]`, or `[H, W, 4]` with opacity, to draw on; grey becomes RGB.

    Raises:
        ValueError: The image is neither grey nor RGB nor RGBA, or has no pixels.
    """
    canvas = np.atleast_3d(check_displayable(image)).astype(np.float32)
    return canvas.repeat(3, axis=2) if canvas.shape[2] == 1 else canvas


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
        image: `[H, W, C]`, values 0 to 255; changed. The first three channels are tinted, as red, green and blue; a
            single channel gets the colour's luminance (Rec. 601).
        mask: `[H, W]`, 1 or True for pixels to tint.
        color: matplotlib colour; its alpha is ignored.
        alpha: Weight of the colour in 0..1.

    Returns:
        The changed `image`.

    Raises:
        ValueError: The image has no axis of channels, or two channels.
    """
    if image.ndim != 3 or image.shape[2] in (0, 2):
        raise ValueError(f"Expected an image [H, W, C] with 1, 3 or more channels. Received: shape {image.shape}")
    rgb = 255 * np.array(to_rgb(color))
    tint = rgb if image.shape[2] > 2 else np.array([rgb @ _LUMINANCE])
    inside = np.asarray(mask) == 1
    painted = image[..., : len(tint)]
    painted[inside] = painted[inside] * (1 - alpha) + alpha * tint
    return image


def draw_box(image: np.ndarray, box: Sequence[int], color: Sequence[int]) -> np.ndarray:
    """Draws a box into an image, in place, with lines two pixels wide.

    Args:
        image: uint8 `[H, W]` or `[H, W, C]` with 1, 3 or more channels; changed. The first three are drawn on; grey
            gets the colour's luminance (Rec. 601).
        box: (y1, x1, y2, x2) in pixels.
        color: (red, green, blue) in 0..255.

    Returns:
        The changed `image`.
    """
    y1, x1, y2, x2 = (int(side) for side in box)
    grey = image.ndim == 2 or image.shape[2] == 1
    target = image if grey else image[..., :3]
    drawn = np.ascontiguousarray(target)
    value = [round(float(_LUMINANCE @ np.asarray(color[:3])))] if grey else [int(value) for value in color[:3]]
    cv2.rectangle(drawn, (x1, y1), (x2, y2), color=value, thickness=2)
    if drawn is not target:
        target[...] = drawn
    return image
