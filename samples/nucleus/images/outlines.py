"""Outlines of nuclei over their image."""

from __future__ import annotations

import colorsys

import numpy as np

# Hues a golden section apart: labels that follow each other differ strongly.
_GOLDEN_SECTION = 0.618034


def draw_outlines(image: np.ndarray, labels: np.ndarray, colour: tuple[int, int, int] | None = None) -> np.ndarray:
    """Draws the outline of every nucleus, so that it shows on bright and on dark images.

    A nucleus's own border pixels take a bright colour; the background pixels next to them are darkened, which
    sets the colour off where the image is bright.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        labels: Integer `[H, W]`.
        colour: RGB, 0 to 255, of all outlines; by default each nucleus has a colour of its own.

    Returns:
        A new uint8 `[H, W, 3]` RGB image.

    Raises:
        ValueError: The shapes do not fit.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f"Image and labels differ in shape. Received: {image.shape[:2]} and {labels.shape}")
    border = _borders(labels)
    drawn = image.copy()
    drawn[border & (labels == 0)] //= 3
    inner = border & (labels > 0)
    drawn[inner] = _palette(int(labels.max(initial=0)))[labels[inner]] if colour is None else colour
    return drawn


def _borders(labels: np.ndarray) -> np.ndarray:
    """Returns bool `[H, W]`: pixels with a neighbour above, below, left or right of another label."""
    border = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    border[1:] |= down
    border[:-1] |= down
    border[:, 1:] |= right
    border[:, :-1] |= right
    return border


def _palette(count: int) -> np.ndarray:
    """Returns uint8 `[count + 1, 3]` saturated RGB colours by label; 0 is black."""
    colours = [colorsys.hsv_to_rgb(label * _GOLDEN_SECTION % 1, 0.9, 1) for label in range(1, count + 1)]
    return np.vstack([np.zeros((1, 3)), np.reshape(colours, (-1, 3)) * 255]).astype(np.uint8)
