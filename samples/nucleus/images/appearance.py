"""What an image looks like: its contrast as histograms, and the kind of microscopy that this speaks for."""

from __future__ import annotations

import cv2
import numpy as np

LOOKS = ("fluorescence", "histology", "brightfield")
# What is dark for the most part glows on a dark background; what is coloured is stained.
_DARK, _COLOURED = 35.0, 4.0
_BINS = 16
# Chroma from here on is plainly a colour, however strong. With this and the next, both chosen on DSB2018, a stain
# weighs more than its strength.
_HIGHEST_CHROMA = 8.0
_CHROMA_WEIGHT = 1.5


def contrast_histogram(image: np.ndarray) -> np.ndarray:
    """Describes the contrast of an image: cumulative histograms of lightness and of chroma, over CIE Lab.

    Args:
        image: uint8 [H, W, 3] RGB. Of a large one every n-th row and column count.

    Returns:
        float32 [32]: the shares of the pixels up to each of 16 levels of lightness (0 to 100), then up to each of 16
        levels of chroma (0 to 8; what is above counts as 8), the latter weighted by 1.5.
    """
    lightness, chroma = _lightness_and_chroma(image, 2**16)
    return np.concatenate(
        [
            _cumulative_histogram(lightness, 100.0),
            np.float32(_CHROMA_WEIGHT) * _cumulative_histogram(chroma, _HIGHEST_CHROMA),
        ]
    )


def look(image: np.ndarray) -> str:
    """Tells what an image looks like by two thresholds.

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
    """CIE lightness (0 to 100) and chroma of about as many pixels at most, flat."""
    step = max(1, int(np.sqrt(image.shape[0] * image.shape[1] / pixels)))
    lab = cv2.cvtColor(np.float32(image[::step, ::step]) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    return lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])


def _cumulative_histogram(values: np.ndarray, highest: float) -> np.ndarray:
    counts, _ = np.histogram(np.clip(values, 0, highest), _BINS, (0, highest))
    return (np.cumsum(counts) / values.size).astype(np.float32)
