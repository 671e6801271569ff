"""Outlines of nuclei over their image."""

from __future__ import annotations

import colorsys
import math

import numpy as np

from nucleus.images.labels import areas, differing_sides
from unet.distance import distance_to_background

# Difference of hue between consecutive labels, the golden section, so that they differ strongly.
_GOLDEN_SECTION = 0.618034
# Pixels of the longer side for one of the line, so that lines are seen where the image fills a screen.
_PIXELS_A_LINE = 1000
# Least diameters of the median nucleus, in lines, so that it is not filled by its outline.
_LINES_A_NUCLEUS = 10


def line_width(labels: np.ndarray) -> int:
    """Returns a width of outlines in proportion to the image, at most a tenth of the median nucleus' diameter.

    Args:
        labels: Integer `[H, W]`, label image.

    Returns:
        Pixels, at least 1.
    """
    sizes = areas(labels)
    sizes = sizes[sizes > 0]
    diameter = 2 * math.sqrt(np.median(sizes) / math.pi) if sizes.size else math.inf
    return max(1, round(min(max(labels.shape) / _PIXELS_A_LINE, diameter / _LINES_A_NUCLEUS)))


def draw_outlines(
    image: np.ndarray, labels: np.ndarray, colour: tuple[int, int, int] | None = None, width: int = 1
) -> np.ndarray:
    """Draws the outline of every nucleus, visible on bright and on dark images.

    A nucleus's own border pixels get a bright colour; the background pixels next to them are darkened, for contrast on
    bright images.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        labels: Integer `[H, W]`, label image.
        colour: RGB, 0 to 255, of all outlines; by default a different one for each nucleus.
        width: Width of the bright and of the dark line, in pixels.

    Returns:
        A new uint8 `[H, W, 3]` RGB image.

    Raises:
        ValueError: Image and labels differ in height or width.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f"Image and labels differ in shape. Received: {image.shape[:2]} and {labels.shape}")
    border = differing_sides(labels).any(axis=0)
    if width > 1 and border.any():
        # The way from a pixel to the border of another nucleus leads over the border of its own.
        border = distance_to_background(~border) < width
    drawn = image.copy()
    drawn[border & (labels == 0)] //= 3
    inner = border & (labels > 0)
    drawn[inner] = _palette(int(labels.max(initial=0)))[labels[inner]] if colour is None else colour
    return drawn


def _palette(count: int) -> np.ndarray:
    """Returns saturated RGB colours by label, uint8 `[count + 1, 3]`, with black for 0."""
    colours = [colorsys.hsv_to_rgb(label * _GOLDEN_SECTION % 1, 0.9, 1) for label in range(1, count + 1)]
    return np.vstack([np.zeros((1, 3)), np.reshape(colours, (-1, 3)) * 255]).astype(np.uint8)
