"""Colour transfer from one image to another: Reinhard et al., "Color Transfer between Images" (2001)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Equations 4 (from RGB to the responses of the eye's cones) and 6 (from their logarithms to l, alpha, beta).
_RGB_TO_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]], np.float32)
_LOG_LMS_TO_LAB = np.diag(1 / np.sqrt(np.float32([3, 6, 2]))) @ np.float32([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
_LMS_TO_RGB = np.linalg.inv(_RGB_TO_LMS)
_LAB_TO_LOG_LMS = np.linalg.inv(_LOG_LMS_TO_LAB)
# Added to levels, since 0 has no logarithm.
_LOWEST = np.float32(1.0)
# Approximate number of pixels that statistics are computed from.
_SAMPLED = 2**14
# Smaller standard deviations are rounding errors.
_LEAST_DEVIATION = 1e-5
# Largest difference of the means of l, alpha and beta, in decades, at which two images are near.
_LARGEST_SHIFT = np.float32([0.35, 0.1, 0.03])


@dataclass(frozen=True)
class ColourStatistics:
    """Colour statistics of an image, which colour transfer carries over to another.

    Attributes:
        mean: float32 [3], means of l, alpha and beta in decades.
        deviation: float32 [3], standard deviations of l, alpha and beta in decades.
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> ColourStatistics:
        """Computes the statistics of an image, uint8 [H, W, 3] RGB, from a regular subsample of about 16,384 pixels."""
        _check(image)
        step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / _SAMPLED)))
        colours = to_lab(image[::step, ::step]).reshape(-1, 3)
        # Sums of so many numbers would lose digits in float32.
        mean, deviation = (of(colours, axis=0, dtype=np.float64) for of in (np.mean, np.std))
        return cls(mean.astype(np.float32), deviation.astype(np.float32))

    def is_near(self, other: ColourStatistics) -> bool:
        """Returns True if colours transferred between the two images remain those of a stain.

        Images are too far apart if the transfer would change the hue, or scale contrast or colourfulness by more than a
        factor of two, which amplifies noise or fades structures.

        Args:
            other: Statistics of the other image.
        """
        shift = np.abs(self.mean - other.mean)
        ratios = np.maximum(self.deviation, _LEAST_DEVIATION) / np.maximum(other.deviation, _LEAST_DEVIATION)
        return bool((shift <= _LARGEST_SHIFT).all() and (np.abs(np.log2(ratios)) <= 1).all())


def transfer_colour(image: np.ndarray, reference: np.ndarray | ColourStatistics) -> np.ndarray:
    """Shifts and scales an image's colours to a reference's means and standard deviations in l-alpha-beta.

    Imitates the differences of stains between laboratories and scanners; structures stay in place. Both images should
    have similar contents, such as two sections with the same stain.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> image = rng.integers(90, 120, (32, 32, 3), np.uint8)
        >>> reference = rng.integers(100, 200, (48, 32, 3), np.uint8)
        >>> transferred = transfer_colour(image, reference)
        >>> transferred.shape, bool(abs(transferred.mean() - reference.mean()) < 3)
        ((32, 32, 3), True)

    Args:
        image: uint8 [H, W, 3] RGB.
        reference: uint8 [H', W', 3] RGB, or its statistics.

    Returns:
        uint8 [H, W, 3] RGB. A constant channel of l-alpha-beta is only shifted.

    Raises:
        ValueError: An argument is no 8-bit RGB image.
    """
    wanted = reference if isinstance(reference, ColourStatistics) else ColourStatistics.of(reference)
    own = ColourStatistics.of(image)
    scale = np.divide(
        wanted.deviation, own.deviation, out=np.ones(3, np.float32), where=own.deviation > _LEAST_DEVIATION
    )
    return from_lab((to_lab(image) - own.mean) * scale + wanted.mean)


def to_lab(image: np.ndarray) -> np.ndarray:
    """Converts an image, uint8 [H, W, 3] RGB, to Ruderman's l-alpha-beta, float32 [H, W, 3]: equations 4 to 6."""
    return cv2.transform(np.log10(cv2.transform(image.astype(np.float32) + _LOWEST, _RGB_TO_LMS)), _LOG_LMS_TO_LAB)


def from_lab(colours: np.ndarray) -> np.ndarray:
    """Converts l-alpha-beta, float32 [H, W, 3], to uint8 [H, W, 3] RGB; colours outside the gamut are clipped."""
    cones = np.exp(cv2.transform(colours, _LAB_TO_LOG_LMS) * np.float32(np.log(10)))
    return np.rint(np.clip(cv2.transform(cones, _LMS_TO_RGB) - _LOWEST, 0, 255)).astype(np.uint8)


def _check(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"colour transfer expects uint8 [H, W, 3]; received {image.dtype} {image.shape}")
