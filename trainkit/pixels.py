"""From samples of any bit depth to 8 bits, by one rule."""

from __future__ import annotations

import numpy as np

# Percentiles of an image that become 0 and 255.
_PERCENTILES = (0.1, 99.9)


def to_uint8(pixels: np.ndarray) -> np.ndarray:
    """Converts samples to 8 bits.

    8-bit samples stay as they are, and booleans become 0 and 255. All others (16-bit, 32-bit, float) are scaled
    linearly so that the image's own 0.1th percentile becomes 0 and its 99.9th percentile 255, with one scale for all
    channels, and clipped, whatever number of bits the camera had. If both percentiles are equal, the image is scaled
    from its minimum to its maximum; a constant image becomes 0. Samples that are not finite become 0.

    Args:
        pixels: Samples of any shape and real dtype.

    Returns:
        uint8 of the same shape; the input itself if it is that.

    Raises:
        ValueError: The samples are no real numbers.

    Examples:
        >>> to_uint8(np.array([0, 1023, 4095], np.uint16))
        array([  0,  64, 255], dtype=uint8)
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * np.uint8(255)
    if pixels.dtype.kind not in "uif":
        raise ValueError(f"Expected samples that are real numbers. Received: {pixels.dtype}")
    finite = np.isfinite(pixels)
    values = pixels[finite]
    if not values.size:
        return np.zeros(pixels.shape, np.uint8)
    low, high = (float(value) for value in np.percentile(values, _PERCENTILES))
    if low == high:
        low, high = float(values.min()), float(values.max())
    if low == high:
        return np.zeros(pixels.shape, np.uint8)
    scaled = (np.where(finite, pixels, low).astype(np.float64) - low) * (255.0 / (high - low))
    return np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)
