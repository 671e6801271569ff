"""Square windows cut out of an image and its label image, at their own size or magnified and turned."""

from __future__ import annotations

import math

import cv2
import numpy as np

# float32, the only type of label that OpenCV's warps take beside 16 bits, holds whole numbers up to here.
_MAX_LABEL = 2**24


def random_window(
    image: np.ndarray, labels: np.ndarray, side: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts the same random square window out of an image and its label image, mirroring where they are too small.

    Args:
        image: `[H, W, C]`.
        labels: `[H, W]`.
        side: Side of the window in pixels.
        rng: Generator of the window's random place.

    Returns:
        (`[side, side, C]`, `[side, side]`).
    """
    missing = [max(side - length, 0) for length in labels.shape]
    if any(missing):
        margins = [(length // 2, length - length // 2) for length in missing]
        image = np.pad(image, [*margins, (0, 0)], mode="symmetric")
        labels = np.pad(labels, margins, mode="symmetric")
    top, left = (int(rng.integers(length - side + 1)) for length in labels.shape)
    window = np.s_[top : top + side, left : left + side]
    return np.ascontiguousarray(image[window]), np.ascontiguousarray(labels[window])


def random_warped_window(
    image: np.ndarray,
    labels: np.ndarray,
    side: int,
    scales: tuple[float, float],
    rotation: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts the same window out of image and label image at a random magnification and angle, in one resampling.

    The magnification is drawn evenly on a logarithmic scale. The window lies in the image as far as it fits before it
    is turned; what is beyond the image is its mirror image, in the label image too.

    Args:
        image: uint8 `[H, W, C]`.
        labels: Integer `[H, W]`, labels up to 2^24.
        side: Side of the window in pixels of the result.
        scales: Least and largest magnification, above 0.
        rotation: Largest angle to either side, in degrees.
        rng: Generator of the random magnification, angle and place.

    Returns:
        (uint8 `[side, side, C]`, int32 `[side, side]`).

    Raises:
        ValueError: A label is above 2^24.
    """
    scale = math.exp(rng.uniform(*np.log(scales)))
    angle = rng.uniform(-rotation, rotation)
    margins = [min(side / scale, length) / 2 for length in labels.shape]
    centre = [rng.uniform(margin, length - margin) for margin, length in zip(margins, labels.shape, strict=True)]
    return warped_window(image, labels, side, scale, angle, (centre[0], centre[1]))


def warped_window(
    image: np.ndarray, labels: np.ndarray, side: int, scale: float, angle: float, centre: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Cuts a window out of image and label image, magnified and rotated about its centre.

    Pixels of the image are interpolated linearly and labels taken from the nearest pixel, both at the same places:
    outlines are neither shifted nor widened.

    Args:
        image: uint8 `[H, W, C]`.
        labels: Integer `[H, W]`, labels up to 2^24.
        side: Side of the window in pixels of the result.
        scale: Magnification.
        angle: Angle in degrees.
        centre: (y, x) of the window's centre from the image's upper left corner, in pixels of the image.

    Returns:
        (uint8 `[side, side, C]`, int32 `[side, side]`).

    Raises:
        ValueError: A label is above 2^24.
    """
    if labels.max(initial=0) > _MAX_LABEL:
        raise ValueError(f"Labels of a warped window must be up to {_MAX_LABEL}. Received: {labels.max()}")
    cosine, sine = math.cos(math.radians(angle)) / scale, math.sin(math.radians(angle)) / scale
    turn = np.array([[cosine, -sine], [sine, cosine]])
    # From indices of the result to indices of the image, both (x, y); a pixel's centre is half a pixel from its corner.
    offset = np.array(centre[::-1]) - 0.5 - turn @ np.full(2, (side - 1) / 2)
    matrix = np.column_stack([turn, offset])
    options = {"borderMode": cv2.BORDER_REFLECT}
    window = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, **options)
    nearest = cv2.warpAffine(
        labels.astype(np.float32), matrix, (side, side), flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP, **options
    )
    return window.reshape(side, side, image.shape[2]), nearest.astype(np.int32)
