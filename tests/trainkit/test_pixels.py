"""Samples of every depth become 8 bits by one rule."""

import numpy as np
import pytest

from trainkit.pixels import to_uint8


def test_eight_bits_stay():
    pixels = np.arange(20, dtype=np.uint8)
    assert to_uint8(pixels) is pixels
    assert to_uint8(np.array([True, False])).tolist() == [255, 0]


@pytest.mark.parametrize("factor", [1, 16, 16.0, 1 / 4095])
def test_brightness_does_not_depend_on_the_unit(factor):
    """12 bits in 16-bit files, 16 bits, and float images of one scene look alike, and none is nearly black."""
    scene = np.random.default_rng(0).integers(0, 4096, (40, 50, 3))
    pixels = (scene * factor).astype(np.float32 if isinstance(factor, float) else np.uint16)
    found = to_uint8(pixels)
    low, high = np.percentile(scene, (0.1, 99.9))
    expected = np.clip((scene - low) / (high - low) * 255, 0, 255)
    assert np.abs(found - expected).max() <= 0.51
    assert found.min() == 0 and found.max() == 255


def test_few_bright_pixels_count_and_a_constant_image_is_black():
    sparse = np.zeros((100, 100), np.uint16)
    sparse[5, 5] = 900
    assert to_uint8(sparse).max() == 255 and np.count_nonzero(to_uint8(sparse)) == 1
    assert not to_uint8(np.full((3, 3), 7.5)).any()
    assert to_uint8(np.array([0.0, np.nan, 1.0])).tolist() == [0, 0, 255]
    assert not to_uint8(np.full((3, 3), np.nan)).any()


def test_complex_samples_are_refused():
    with pytest.raises(ValueError, match=r"real numbers\. Received: complex64"):
        to_uint8(np.zeros(3, np.complex64))
