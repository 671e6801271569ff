"""Grey levels scaled so that background is 0 and nuclei are 1, whether nuclei are brighter or darker."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from skimage.color import rgb2hed
from skimage.filters import threshold_multiotsu, threshold_otsu

POLARITIES = ("auto", "bright", "dark")
# A smaller range is one grey level with a Gaussian's rounding errors, and too small for Otsu's histogram of 256 bins in
# float32. Two levels of an 8-bit image differ by a hundred times as much.
_LEAST_RANGE = 256 * np.finfo(np.float32).eps
# Second derivative along both axes: a level that is constant along either axis vanishes, noise stays.
_LAPLACIAN_DIFFERENCE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def to_grey(image: np.ndarray, channel: str = "luminance") -> np.ndarray:
    """Turns a colour image into grey levels.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        channel: "luminance" is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601); "red", "green" and "blue" are that channel;
            "haematoxylin" is the transmittance of this stain alone, by the colour deconvolution of Ruifrok and
            Johnston, "Quantification of histochemical staining by color deconvolution", 2001: for H&E only.

    Returns:
        float32 `[H, W]` in 0..1.

    Raises:
        ValueError: The channel is unknown.
    """
    if channel not in CHANNELS:
        raise ValueError(f"The channel must be one of {', '.join(CHANNELS)}. Received: {channel!r}")
    return CHANNELS[channel](image)


# Channel -> function from uint8 [H, W, 3] RGB to float32 [H, W] in 0..1.
CHANNELS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "luminance": lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255,
    "red": lambda image: image[..., 0].astype(np.float32) / 255,
    "green": lambda image: image[..., 1].astype(np.float32) / 255,
    "blue": lambda image: image[..., 2].astype(np.float32) / 255,
    "haematoxylin": lambda image: np.exp(-rgb2hed(image)[..., 0]).astype(np.float32),
}


def smooth(grey: np.ndarray, sigma: float) -> np.ndarray:
    """Smooths a grey image by a Gaussian.

    Args:
        grey: float32 `[H, W]`.
        sigma: Standard deviation in pixels; 0 changes nothing.
    """
    return cv2.GaussianBlur(grey, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) if sigma else grey


class GreyRange(NamedTuple):
    """Range of an image's grey levels.

    Attributes:
        background: Mean grey level of the background.
        nuclei: Mean grey level of the nuclei, below that of the background where nuclei are dark.
    """

    background: float
    nuclei: float

    def levels(self, grey: np.ndarray) -> np.ndarray:
        """Returns grey levels float32 `[H, W]` scaled so that the background is about 0 and nuclei are about 1."""
        return (grey - np.float32(self.background)) / np.float32(self.nuclei - self.background)


def find_range(
    grey: np.ndarray, polarity: str = "auto", least_contrast: float = 0.0, classes: int = 2
) -> GreyRange | None:
    """Finds the range in which the means of Otsu's two classes, background and nuclei, are 0 and 1.

    Otsu's threshold ("A threshold selection method from gray-level histograms", 1979) is half-way between the means of
    its classes, so it is 0.5 in this range.

    Args:
        grey: float32 `[H, W]`.
        polarity: "bright" nuclei are brighter than the background, "dark" ones darker. With "auto" the rarer class is
            taken for nuclei, which is wrong where they cover more than half of the image.
        least_contrast: Smallest difference of the two means, 0..1, at which the image has nuclei.
        classes: Number of classes, 2 or 3. With 3 (Otsu's section III.C) the middle class is 0, so that nuclei stand
            out from the stained cells around them. The polarity is still that of two classes.

    Returns:
        The range, in which nuclei are above 0.5, or None where the contrast is smaller or all levels are within 3.1e-5.

    Raises:
        ValueError: The polarity is unknown.
    """
    if polarity not in POLARITIES:
        raise ValueError(f"The polarity must be one of {', '.join(POLARITIES)}. Received: {polarity!r}")
    if grey.max() - grey.min() < _LEAST_RANGE:
        return None
    bright = grey > threshold_otsu(grey)
    light, dark = float(grey[bright].mean()), float(grey[~bright].mean())
    if light - dark < least_contrast:
        return None
    nuclei_dark = polarity == "dark" or (polarity == "auto" and 2 * np.count_nonzero(bright) > bright.size)
    means = [dark, light] if classes == 2 else _three_means(grey)
    nuclei, background = (means[0], means[1]) if nuclei_dark else (means[-1], means[-2])
    return GreyRange(background, nuclei)


def _three_means(grey: np.ndarray) -> list[float]:
    """Returns the means of Otsu's three classes, from dark to light; of two if there are two grey levels only."""
    try:
        thresholds = threshold_multiotsu(grey, classes=3)
    except ValueError:
        thresholds = [threshold_otsu(grey)]
    number = np.digitize(grey, thresholds, right=True)
    return [float(grey[number == k].mean()) for k in np.unique(number)]


def noise_deviation(grey: np.ndarray) -> float:
    """Estimates the standard deviation of an image's noise (Immerkær, "Fast noise variance estimation", 1996).

    Args:
        grey: float32 `[H, W]`, not smoothed. Noise is assumed to be white; fine texture counts as noise too.

    Returns:
        The standard deviation in the unit of `grey`.
    """
    response = cv2.filter2D(grey, cv2.CV_32F, _LAPLACIAN_DIFFERENCE, borderType=cv2.BORDER_REFLECT)
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(response).mean())
