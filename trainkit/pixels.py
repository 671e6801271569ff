"""From samples of any bit depth to 8 bits, by one rule and in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

# Percentiles of an image that become 0 and 255.
PERCENTILES = (0.1, 99.9)
# Samples that are converted at once.
_BLOCK = 2**20


class Scale(NamedTuple):
    """A linear scale from samples to 0...255.

    Attributes:
        low: Sample that becomes 0, as all below it do.
        high: Sample that becomes 255, as all above it do; not below `low`. If both agree, everything becomes 0.
    """

    low: float
    high: float

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """Scales samples; those that are not finite become 0.

        Args:
            pixels: Array of any real type and shape.

        Returns:
            uint8 of the same shape.
        """
        if self.low == self.high:
            return np.zeros(pixels.shape, np.uint8)
        convert = self._convert
        if _is_short(pixels.dtype):
            bounds = np.iinfo(pixels.dtype)
            # Negative numbers count from the end of a table, as they do in two's complement.
            convert = np.roll(self._convert(np.arange(bounds.min, bounds.max + 1)), bounds.min).__getitem__
        scaled = np.empty(pixels.shape, np.uint8)
        # Block by block, since indices and float64 take eight bytes each.
        for rows in _blocks(pixels):
            scaled[rows] = convert(pixels[rows])
        return scaled

    def _convert(self, pixels: np.ndarray) -> np.ndarray:
        values = np.where(np.isfinite(pixels), pixels, self.low).astype(np.float64)
        values -= self.low
        values *= 255.0 / (self.high - self.low)
        return np.rint(np.clip(values, 0.0, 255.0, out=values), out=values).astype(np.uint8)


def measure_scale(pixels: np.ndarray) -> Scale:
    """Returns the scale of an image: from its 0.1th to its 99.9th percentile.

    Percentiles are those of `numpy.percentile` over all finite samples of all channels. If both are equal, as in a very
    sparse image, the scale is that from the minimum to the maximum.

    Args:
        pixels: Array of any real type and shape.
    """
    low, high, least, most = _short_levels(pixels) if _is_short(pixels.dtype) else _long_levels(pixels)
    return Scale(low, high) if low != high else Scale(least, most)


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
    return measure_scale(pixels).apply(pixels)


def _blocks(pixels: np.ndarray) -> Iterator[slice]:
    """Yields slices of rows with about a million samples each."""
    rows = max(1, _BLOCK // max(1, pixels[:1].size))
    yield from (slice(start, start + rows) for start in range(0, len(pixels), rows))


def _is_short(dtype: np.dtype) -> bool:
    """Returns True if all samples of a type can be counted in a small table."""
    return dtype.kind in "iu" and dtype.itemsize <= 2


def _short_levels(pixels: np.ndarray) -> tuple[float, float, float, float]:
    """Returns both percentiles, minimum and maximum, from the number of samples of each level."""
    first, last = np.iinfo(pixels.dtype).min, np.iinfo(pixels.dtype).max
    counts = np.zeros(last - first + 1, np.int64)
    for rows in _blocks(pixels):
        counts += np.bincount(pixels[rows].ravel().astype(np.int64) - first, minlength=len(counts))
    total = np.cumsum(counts)
    at = [float(np.searchsorted(total, rank, side="right") + first) for rank in _ranks(int(total[-1]))]
    present = np.flatnonzero(counts) + first
    return *_between(at, int(total[-1])), float(present[0]), float(present[-1])


def _long_levels(pixels: np.ndarray) -> tuple[float, float, float, float]:
    """Returns both percentiles, minimum and maximum, from a partly sorted copy."""
    values = np.array(pixels).reshape(-1)
    if values.dtype.kind == "f":
        count = 0
        for start in range(0, values.size, _BLOCK):
            block = values[start : start + _BLOCK]
            block = block[np.isfinite(block)]
            values[count : count + block.size] = block
            count += block.size
        values = values[:count]
    if values.size == 0:
        return 0.0, 0.0, 0.0, 0.0
    ranks = _ranks(values.size)
    values.partition(sorted({0, values.size - 1, *ranks}))
    return *_between([float(values[rank]) for rank in ranks], values.size), float(values[0]), float(values[-1])


def _ranks(count: int) -> list[int]:
    """Returns, for each percentile, the ranks of the two samples that it lies between."""
    places = [(count - 1) * (percentile / 100) for percentile in PERCENTILES]
    return [min(int(place) + more, count - 1) for place in places for more in (0, 1)]


def _between(levels: list[float], count: int) -> tuple[float, float]:
    """Interpolates each percentile linearly between the two samples that it lies between."""
    result = []
    for number, percentile in enumerate(PERCENTILES):
        below, above = levels[2 * number : 2 * number + 2]
        part = (count - 1) * (percentile / 100) % 1
        step = above - below
        # From the nearer of both, as NumPy does, so that both ends are exact.
        result.append(below + step * part if part < 0.5 else above - step * (1 - part))
    return result[0], result[1]
