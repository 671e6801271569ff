"""Appearance of an image: histograms of its contrast, and the kind of microscopy that it looks like."""

from __future__ import annotations

import cv2
import numpy as np

LOOKS = ("fluorescence", "histology", "brightfield")
# Lightness below which a pixel is dark, and mean chroma from which an image is stained.
_DARK, _COLOURED = 35.0, 4.0
_BINS = 16
# Chroma is clipped here and its histogram weighted, so that the presence of a stain counts more than its strength. Both
# values were chosen on DSB2018.
_HIGHEST_CHROMA = 8.0
_CHROMA_WEIGHT = 1.5


def contrast_histogram(image: np.ndarray) -> np.ndarray:
    """Describes the contrast of an image by cumulative histograms of its lightness and chroma in CIE Lab.

    Args:
        image: uint8 [H, W, 3] RGB. Only every n-th row and column of a large image are used.

    Returns:
        float32 [32]: the shares of the pixels up to each of 16 levels of lightness (0 to 100), then up to each of 16
        levels of chroma (0 to 8; higher values count as 8), the latter weighted by 1.5.
    """
    lightness, chroma = _lightness_and_chroma(image, 2**16)
    return np.concatenate(
        [
            _cumulative_histogram(lightness, 100.0),
            np.float32(_CHROMA_WEIGHT) * _cumulative_histogram(chroma, _HIGHEST_CHROMA),
        ]
    )


def look(image: np.ndarray) -> str:
    """Guesses the kind of microscopy of an image by two thresholds.

    Args:
        image: uint8 [H, W, 3] RGB.

    Returns:
        "fluorescence" if half of the pixels are dark (CIE lightness below 35), else "histology" if it is coloured
        (mean chroma from 4 on), else "brightfield".
    """
    lightness, chroma = _lightness_and_chroma(image, 2**12)
    fluorescence, histology, brightfield = LOOKS
    if np.median(lightness) < _DARK:
        return fluorescence
    return histology if chroma.mean() >= _COLOURED else brightfield


def _lightness_and_chroma(image: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """CIE lightness (0 to 100) and chroma of a subsample of about `pixels` pixels, both float32 [P]."""
    step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / pixels)))
    lab = cv2.cvtColor(np.float32(image[::step, ::step]) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    return lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])


def _cumulative_histogram(values: np.ndarray, highest: float) -> np.ndarray:
    counts, _ = np.histogram(np.clip(values, 0, highest), _BINS, (0, highest))
    return (np.cumsum(counts) / values.size).astype(np.float32)
