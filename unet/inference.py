"""Predicting whole images of any size with a network that takes multiples of its stride."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from unet.resize import resize_image, resize_probabilities

# The sides that images are padded to: this many between a power of two and the next, at most.
_STEPS_AN_OCTAVE = 8


def padded_side(length: int, stride: int) -> int:
    """Returns the side that an image's side is padded to.

    It is a multiple of the stride, and from 16 strides on of a growing power of two, at most an eighth more than the
    image: images of many sizes share few compiled graphs.

    Args:
        length: Pixels, 1 or more.
        stride: A power of two.
    """
    octave = 1 << (length - 1).bit_length()
    step = max(stride, octave // (2 * _STEPS_AN_OCTAVE))
    return -(-length // step) * step


def predict_probabilities(run: Callable[[np.ndarray], Any], image: np.ndarray, stride: int) -> np.ndarray:
    """Predicts one image at its own size.

    The image is mirrored at its edges until its sides suit the network, equally on both, and the prediction is cut
    back (Rocha de Andrade, "Nuclei detection based on fully convolutional networks", section 5.6). An image smaller
    than what is missing is mirrored over and over.

    Args:
        run: From float32 `[1, h, w, C]`, h and w multiples of the stride, to probabilities `[1, h, w, channels]`.
        image: `[H, W, C]`, 0 to 255.
        stride: A power of two.

    Returns:
        float32 `[H, W, channels]`.
    """
    height, width = image.shape[:2]
    missing = [padded_side(length, stride) - length for length in (height, width)]
    top, left = (length // 2 for length in missing)
    margins = [(top, missing[0] - top), (left, missing[1] - left), (0, 0)]
    padded = np.pad(image, margins, mode="symmetric")[None].astype(np.float32)
    probabilities = keras.ops.convert_to_numpy(run(padded))[0]
    return np.ascontiguousarray(probabilities[top : top + height, left : left + width], dtype=np.float32)


def predict_resized(run: Callable[[np.ndarray], Any], image: np.ndarray, side: int) -> np.ndarray:
    """Predicts one image brought to a square, as training with IMAGE_MODE "resize" shows images to the network.

    Args:
        run: See `predict_probabilities`.
        image: `[H, W, C]`, 0 to 255.
        side: Of the square: a multiple of the network's stride.

    Returns:
        float32 `[H, W, channels]`: the prediction of the square brought back to the image's size.
    """
    small = resize_image(image, side)[None].astype(np.float32)
    probabilities = np.asarray(keras.ops.convert_to_numpy(run(small))[0], np.float32)
    return resize_probabilities(probabilities, image.shape[:2])
