"""Bringing images, label images and probabilities to another size."""

from __future__ import annotations

import cv2
import numpy as np


def resize_image(image: np.ndarray, side: int) -> np.ndarray:
    """Brings an image to a square, whatever shape it has.

    Args:
        image: `[H, W, C]`; averaged over the pixels that become one where it shrinks, else interpolated.
        side: Of the square, in pixels.

    Returns:
        `[side, side, C]` of the same type.
    """
    shrinks = min(image.shape[:2]) > side
    resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized.reshape(side, side, -1)


def resize_labels(labels: np.ndarray, side: int) -> np.ndarray:
    """Brings a label image to a square: every pixel takes the label at its centre.

    Args:
        labels: `[H, W]`.
        side: Of the square, in pixels.

    Returns:
        `[side, side]` of the same type.
    """
    rows, columns = (((np.arange(side) + 0.5) * length / side).astype(int) for length in labels.shape)
    return labels[rows[:, None], columns]


def resize_probabilities(probabilities: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Brings the channels of a prediction to the size of an image, interpolating linearly.

    Args:
        probabilities: float32 `[h, w, channels]`.
        shape: (height, width) in pixels.

    Returns:
        float32 `[height, width, channels]`.
    """
    resized = cv2.resize(probabilities, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return resized.reshape(*shape, -1)
