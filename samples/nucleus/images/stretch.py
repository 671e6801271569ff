"""Stretching an image's brightness, so that dim and bright recordings look alike to a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Stretch:
    """A linear stretch of an image from two of its own quantiles to the whole range.

    A callable image -> image for a dataset's or a predictor's preprocessing. The quantiles are those of all samples of
    the three channels together, so that hues stay; they are levels that occur in the image. What is outside them is
    clipped. An image whose quantiles agree is stretched from its minimum to its maximum, and one of a single level
    stays as it is.

    Args:
        low: Quantile that becomes 0, from 0 on.
        high: Quantile that becomes 255, up to 1 and above `low`.
    """

    low: float = 0.01
    high: float = 0.998

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"Quantiles must rise from 0 to 1; received {self.low!r} and {self.high!r}")

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Stretches a uint8 [H, W, 3] image; returns another of the same type and shape."""
        levels = self.levels(image)
        return image if levels is None else levels[image]

    def levels(self, image: np.ndarray) -> np.ndarray | None:
        """Returns the new level of every level of an image, or of one that it is a sample of.

        Args:
            image: uint8 [H, W, 3].

        Returns:
            uint8 [256]; None where the image has a single level and stays as it is.
        """
        if image.dtype != np.uint8 or image.ndim != 3:
            raise ValueError(f"A stretch expects uint8 [H, W, C]; received {image.dtype} {image.shape}")
        counts = np.cumsum(np.bincount(image.ravel(), minlength=256))
        low, high = (int(np.searchsorted(counts, share * counts[-1])) for share in (self.low, self.high))
        if low == high:
            low, high = int(image.min()), int(image.max())
        if low == high:
            return None
        return np.rint((np.arange(256) - low) * (255.0 / (high - low))).clip(0, 255).astype(np.uint8)
