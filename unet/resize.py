"""Resizing of images, label images and probabilities."""

from __future__ import annotations

import cv2
import numpy as np


def resize_image(image: np.ndarray, side: int) -> np.ndarray:
    """Resizes an image to a square: averaging pixels if both sides shrink, else interpolating linearly.

    Args:
        image: `[H, W, C]`.
        side: Side of the square in pixels.

    Returns:
        `[side, side, C]` of the image's dtype.
    """
    shrinks = min(image.shape[:2]) > side
    resized = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized.reshape(side, side, -1)


def resize_labels(labels: np.ndarray, side: int) -> np.ndarray:
    """Resizes a label image to a square: every pixel takes the label at its centre.

    Args:
        labels: `[H, W]`, label image.
        side: Side of the square in pixels.

    Returns:
        `[side, side]` of the label image's dtype.

    Examples:
        >>> resize_labels(np.array([[1, 2], [3, 4]]), 4).tolist()
        [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4]]
    """
    rows, columns = (((np.arange(side) + 0.5) * length / side).astype(int) for length in labels.shape)
    return labels[rows[:, None], columns]


def resize_probabilities(probabilities: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resizes the channels of a prediction to an image's size, interpolating linearly.

    Args:
        probabilities: float32 `[h, w, channels]` in 0..1.
        shape: (height, width) of the image in pixels.

    Returns:
        float32 `[height, width, channels]`.
    """
    resized = cv2.resize(probabilities, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
    return resized.reshape(*shape, -1)
