"""From an image to levels in which background is 0 and nuclei are 1, whether they are brighter or darker than it."""

from __future__ import annotations

import cv2
import numpy as np
from skimage.color import rgb2hed
from skimage.filters import threshold_multiotsu, threshold_otsu

CHANNELS = ("luminance", "red", "green", "blue", "haematoxylin")
POLARITIES = ("auto", "bright", "dark")
_RGB = ("red", "green", "blue")
# What differs by less is one grey level with rounding errors, as a Gaussian leaves them, and too little for Otsu's
# histogram of 256 bins in float32. Two levels of an 8-bit image differ by a hundred times as much.
_LEAST_RANGE = 256 * np.finfo(np.float32).eps
# Second derivative along both axes: what is even along either vanishes, noise stays.
_LAPLACIAN_DIFFERENCE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)


def to_grey(image: np.ndarray, channel: str = "luminance") -> np.ndarray:
    """Turns a colour image into grey levels.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        channel: "luminance" is 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601); "red", "green" and "blue" are that channel;
            "haematoxylin" is the light that this stain alone would let through, by the colour deconvolution of Ruifrok
            and Johnston, "Quantification of histochemical staining by color deconvolution", 2001: for H&E only.

    Returns:
        float32 `[H, W]` in 0..1.

    Raises:
        ValueError: An unknown channel.
    """
    if channel not in CHANNELS:
        raise ValueError(f"The channel must be one of {', '.join(CHANNELS)}. Received: {channel!r}")
    if channel == "haematoxylin":
        return np.exp(-rgb2hed(image)[..., 0]).astype(np.float32)
    if channel in _RGB:
        return image[..., _RGB.index(channel)].astype(np.float32) / 255
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255


def smooth(grey: np.ndarray, sigma: float) -> np.ndarray:
    """Returns float32 `[H, W]` smoothed by a Gaussian of `sigma` pixels; 0 changes nothing."""
    return cv2.GaussianBlur(grey, (0, 0), sigma, borderType=cv2.BORDER_REFLECT) if sigma else grey


def nuclear_levels(
    grey: np.ndarray, polarity: str = "auto", least_contrast: float = 0.0, classes: int = 2
) -> np.ndarray | None:
    """Scales grey levels so that background is 0 and nuclei are 1, the means of the two classes that Otsu finds.

    Otsu's threshold ("A threshold selection method from gray-level histograms", 1979) is half-way between the means of
    its classes, so it is 0.5 of these levels.

    Args:
        grey: float32 `[H, W]`.
        polarity: "bright" nuclei are brighter than the background, "dark" ones darker. With "auto" the rarer class is
            taken for nuclei, which is wrong where they cover more than half of the image.
        least_contrast: By how much the means differ at least if there are nuclei at all.
        classes: 3 divides the levels into three (Otsu's section III.C), and it is the middle class that is 0: where
            cells are stained too, their nuclei stand out from them. The polarity is still that of two classes.

    Returns:
        float32 `[H, W]`, nuclei above 0.5, or None if there is no such contrast, or all levels are within 3.1e-5.

    Raises:
        ValueError: An unknown polarity.
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
    return (grey - np.float32(background)) / np.float32(nuclei - background)


def _three_means(grey: np.ndarray) -> list[float]:
    """Returns the means of the three classes that Otsu finds, from dark to light; of two where there are no more."""
    try:
        thresholds = threshold_multiotsu(grey, classes=3)
    except ValueError:
        # There are two grey levels only.
        thresholds = [threshold_otsu(grey)]
    number = np.digitize(grey, thresholds, right=True)
    return [float(grey[number == k].mean()) for k in np.unique(number)]


def noise_deviation(grey: np.ndarray) -> float:
    """Estimates the standard deviation of an image's noise (Immerkær, "Fast noise variance estimation", 1996).

    Args:
        grey: float32 `[H, W]`, not smoothed. Noise is taken to be white; fine texture counts as noise too.
    """
    response = cv2.filter2D(grey, cv2.CV_32F, _LAPLACIAN_DIFFERENCE, borderType=cv2.BORDER_REFLECT)
    return float(np.sqrt(np.pi / 2) / 6 * np.abs(response).mean())
