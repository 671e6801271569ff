"""Gives one image the colours of another: Reinhard et al., "Color Transfer between Images" (2001)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Equations 4 (from RGB to the responses of the eye's cones) and 6 (from their logarithms to l, alpha, beta).
_RGB_TO_LMS = np.array([[0.3811, 0.5783, 0.0402], [0.1967, 0.7244, 0.0782], [0.0241, 0.1288, 0.8444]], np.float32)
_LOG_LMS_TO_LAB = np.diag(1 / np.sqrt(np.float32([3, 6, 2]))) @ np.float32([[1, 1, 1], [1, 1, -2], [1, -1, 0]])
_LMS_TO_RGB = np.linalg.inv(_RGB_TO_LMS)
_LAB_TO_LOG_LMS = np.linalg.inv(_LOG_LMS_TO_LAB)
# Black has no logarithm: levels count from 1 to 256.
_LOWEST = np.float32(1.0)
# Pixels that statistics are taken from.
_SAMPLED = 2**14
# Less is rounding.
_LEAST_DEVIATION = 1e-5
# Of the means of l, alpha and beta, in decades.
_LARGEST_SHIFT = np.float32([0.35, 0.1, 0.03])


@dataclass(frozen=True)
class ColourStatistics:
    """What one image takes over from another.

    Attributes:
        mean: float32 [3], of l, alpha and beta.
        deviation: float32 [3], their standard deviations.
    """

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> ColourStatistics:
        """The statistics of an image, uint8 [H, W, 3] RGB; of a large one every n-th row and column count."""
        _check(image)
        step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / _SAMPLED)))
        colours = to_lab(image[::step, ::step]).reshape(-1, 3)
        # Of so many numbers float32 would lose digits.
        mean, deviation = (of(colours, axis=0, dtype=np.float64) for of in (np.mean, np.std))
        return cls(mean.astype(np.float32), deviation.astype(np.float32))

    def is_near(self, other: ColourStatistics) -> bool:
        """Whether colours can go from one to the other and stay those of a stain.

        Far apart are images whose hue would turn into another, or whose contrast or colourfulness would grow or shrink
        by more than half: noise would come up, or structures fade.
        """
        shift = np.abs(self.mean - other.mean)
        ratios = np.maximum(self.deviation, _LEAST_DEVIATION) / np.maximum(other.deviation, _LEAST_DEVIATION)
        return bool((shift <= _LARGEST_SHIFT).all() and (np.abs(np.log2(ratios)) <= 1).all())


def transfer_colour(image: np.ndarray, reference: np.ndarray | ColourStatistics) -> np.ndarray:
    """Moves an image's colours so that their means and standard deviations in l-alpha-beta are a reference's.

    Stains differ between laboratories and scanners; what is where in the image stays as it is. Both images should
    show the same things in about the same shares, two sections with one stain for instance.

    Args:
        image: uint8 [H, W, 3] RGB.
        reference: uint8 [H', W', 3] RGB, or its statistics.

    Returns:
        uint8 [H, W, 3] RGB. A channel of l-alpha-beta without any variation is only shifted.

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
    """Ruderman's l-alpha-beta of an image, float32 [H, W, 3], equations 4 to 6; uint8 [H, W, 3] RGB goes in."""
    return cv2.transform(np.log10(cv2.transform(image.astype(np.float32) + _LOWEST, _RGB_TO_LMS)), _LOG_LMS_TO_LAB)


def from_lab(colours: np.ndarray) -> np.ndarray:
    """The reverse of `to_lab`; colours that the screen lacks are cut off."""
    cones = np.exp(cv2.transform(colours, _LAB_TO_LOG_LMS) * np.float32(np.log(10)))
    return np.rint(np.clip(cv2.transform(cones, _LMS_TO_RGB) - _LOWEST, 0, 255)).astype(np.uint8)


def _check(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"colour transfer expects uint8 [H, W, 3]; received {image.dtype} {image.shape}")
