"""Samples of every type are scaled as NumPy's percentiles say, in little memory."""

import tracemalloc

import numpy as np
import pytest
import tifffile

from nucleus.images.reading import read_image
from trainkit.pixels import Scale, measure_scale


def by_numpy(pixels):
    """The rule at the top of `nucleus.images.reading`, in float64 and without regard to memory."""
    values = pixels[np.isfinite(pixels)].astype(np.float64)
    low, high = np.percentile(values, (0.1, 99.9)) if values.size else (0, 0)
    if low == high and values.size:
        low, high = values.min(), values.max()
    if low == high:
        return np.zeros(pixels.shape, np.uint8)
    scaled = (np.where(np.isfinite(pixels), pixels, low).astype(np.float64) - low) * (255.0 / (high - low))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


@pytest.mark.parametrize("dtype", ["u2", "i1", "i2", "u4", "i4", "i8", "f2", "f4", "f8", ">u2", ">f4"])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (301, 257), (40, 50, 3)])
@pytest.mark.parametrize("kind", ["noise", "constant", "sparse"])
def test_the_scale_is_that_of_numpys_percentiles(dtype, shape, kind):
    rng = np.random.default_rng(0)
    pixels = np.abs(rng.normal(40, 30, shape)).clip(0, 120) * (1 if "1" in dtype else 200)
    if kind != "noise":
        pixels[:] = 3
    if kind == "sparse":
        pixels.flat[pixels.size // 2] = 9
    pixels = (-pixels if "i" in dtype else pixels).astype(dtype)
    if "f" in dtype and pixels.size > 20:
        pixels.flat[[3, 7, 11]] = np.nan, np.inf, -np.inf
    np.testing.assert_array_equal(measure_scale(pixels).apply(pixels), by_numpy(pixels))


def test_samples_that_are_nowhere_finite_are_black():
    pixels = np.full((4, 4), np.nan)
    assert measure_scale(pixels) == Scale(0, 0) and not measure_scale(pixels).apply(pixels).any()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("options", [{}, {"tile": (256, 256)}, {"compression": "zlib"}])
def test_reading_needs_less_than_twelve_bytes_a_pixel(tmp_path, dtype, options):
    side = 2000
    pixels = np.random.default_rng(0).integers(0, 4000, (side, side))
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype(dtype), **options)
    del pixels
    tracemalloc.start()
    try:
        read_image(tmp_path / "a.tif")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # The bytes of a sample, those of RGB, and blocks whose size does not grow with the image.
    assert peak < 12 * side**2 + 24e6
