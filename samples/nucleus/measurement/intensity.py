"""Statistics of the intensities of nuclei."""

from __future__ import annotations

from collections.abc import Collection

import cv2
import numpy as np

from nucleus.images.decoding import RawImage
from nucleus.images.decoding.planes import COLOURS

STATISTICS = ("mean", "min", "max", "std", "sum")
# Weights of red, green and blue, ITU-R BT.601.
_LUMINANCE = (0.299, 0.587, 0.114)


class Groups:
    """The pixels of a label image, grouped by nucleus once for all channels.

    Args:
        labels: Integer [H, W], 0 background.
        numbers: Labels that occur, ascending.
    """

    def __init__(self, labels: np.ndarray, numbers: np.ndarray) -> None:
        pixels = np.flatnonzero(labels)
        which = labels.ravel()[pixels]
        order = np.argsort(which, kind="stable")
        self._pixels = pixels[order]
        self._starts = np.searchsorted(which[order], numbers)
        self._counts = np.diff(self._starts, append=pixels.size)

    def statistics(self, channel: np.ndarray) -> dict[str, np.ndarray]:
        """Computes statistics of every nucleus.

        Args:
            channel: [H, W], any real dtype.

        Returns:
            By the names in `STATISTICS` an array [N]: minimum and maximum in the channel's dtype, the others float64.
            The standard deviation is that of the population.
        """
        values = channel.ravel()[self._pixels]
        if not self._starts.size:
            return {name: np.zeros(0) for name in STATISTICS}
        exact = values.astype(np.float64)
        sums = np.add.reduceat(exact, self._starts)
        means = sums / self._counts
        squares = np.add.reduceat((exact - np.repeat(means, self._counts)) ** 2, self._starts)
        return {
            "mean": means,
            "min": np.minimum.reduceat(values, self._starts),
            "max": np.maximum.reduceat(values, self._starts),
            "std": np.sqrt(squares / self._counts),
            "sum": sums,
        }


def brightness(pixels: np.ndarray) -> np.ndarray:
    """Returns one channel of an image: grey as it is, of RGB the luminance (ITU-R BT.601).

    Args:
        pixels: [H, W], or [H, W, 3] RGB, any real dtype. Of truth values, True is 255.

    Returns:
        [H, W] of the dtype of grey or 8-bit pixels, which are rounded; else float64.
    """
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    if pixels.ndim == 2:
        return pixels
    if pixels.dtype == np.uint8:
        return cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_RGB2GRAY)
    return pixels @ np.array(_LUMINANCE)


def distinct_channels(raw: RawImage, taken: Collection[str]) -> dict[str, np.ndarray]:
    """Returns the channels that are to be measured one by one, under names that columns can have.

    Args:
        raw: The image.
        taken: Names that no channel may have.

    Returns:
        [H, W] of every channel by name: its own, or channel1, channel2, ... where it has none, with "-2", "-3", ...
        where the name is taken. Nothing for an image of a single channel, and for a grey one that is stored as colour.
    """
    pixels = raw.pixels
    grey = raw.channels == COLOURS and (pixels[..., 1:] == pixels[..., :1]).all()
    if pixels.shape[2] == 1 or grey:
        return {}
    named: dict[str, np.ndarray] = {}
    for number, given in enumerate(raw.channels, start=1):
        name = wanted = " ".join(given.split()) or f"channel{number}"
        repeat = 1
        while name in named or name in taken:
            repeat += 1
            name = f"{wanted}-{repeat}"
        named[name] = brightness(pixels[..., number - 1])
    return named
