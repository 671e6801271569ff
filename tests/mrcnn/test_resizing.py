"""Protects the geometry of the network's input: scale, window, padding, crop, and pixel values."""

import random

import numpy as np
import pytest
from skimage.draw import disk

from mrcnn import resizing


def disks(shape, circles):
    stack = np.zeros((*shape, len(circles)), bool)
    for i, (y, x, radius) in enumerate(circles):
        stack[(*disk((y, x), radius, shape=shape), i)] = True
    return stack


@pytest.mark.parametrize("size", [(60, 80), (256, 256), (123, 77), (700, 350)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int32])
def test_resize_image_is_within_a_grey_level_of_skimage(size, dtype):
    image = np.random.default_rng(8).integers(0, 256, (*size, 3)).astype(dtype)
    result, window, scale, padding, crop = resizing.resize_image(image, min_dim=200, max_dim=320)
    assert result.shape == (320, 320, 3) and result.dtype == dtype and crop is None
    y1, x1, y2, x2 = window
    assert (y2 - y1, x2 - x1) == (round(size[0] * scale), round(size[1] * scale))
    assert padding == [(y1, 320 - y2), (x1, 320 - x2), (0, 0)]
    expected = resizing.resize(image, (y2 - y1, x2 - x1), preserve_range=True).astype(dtype)
    difference = result[y1:y2, x1:x2].astype(float) - expected
    assert np.abs(difference).max() <= 1
    outside = np.ones((320, 320), bool)
    outside[y1:y2, x1:x2] = False
    assert not result[outside].any()


@pytest.mark.parametrize(
    ("size", "settings", "scale", "window", "shape"),
    [
        ((60, 80), {"mode": "none", "min_dim": 320}, 1, (0, 0, 60, 80), (60, 80, 3)),
        ((60, 80), {"max_dim": 100}, 1, (20, 10, 80, 90), (100, 100, 3)),
        ((60, 80), {"min_dim": 120, "max_dim": 256}, 2, (68, 48, 188, 208), (256, 256, 3)),
        ((60, 80), {"min_dim": 120, "max_dim": 120}, 1.5, (15, 0, 105, 120), (120, 120, 3)),
        ((300, 400), {"min_dim": 100, "max_dim": 200}, 0.5, (25, 0, 175, 200), (200, 200, 3)),
        ((60, 80), {"min_scale": 3, "max_dim": 256}, 3, (38, 8, 218, 248), (256, 256, 3)),
        ((60, 80), {"mode": "pad64"}, 1, (2, 24, 62, 104), (64, 128, 3)),
        ((64, 128), {"mode": "pad64", "min_dim": 64}, 1, (0, 0, 64, 128), (64, 128, 3)),
        ((60, 80), {"mode": "pad64", "min_scale": 2, "max_dim": 64}, 2, (4, 16, 124, 176), (128, 192, 3)),
    ],
)
def test_resize_modes_by_hand(size, settings, scale, window, shape):
    image = np.full((*size, 3), 200, np.uint8)
    result, found_window, found_scale, _, crop = resizing.resize_image(image, **settings)
    assert (found_scale, found_window, result.shape, crop) == (scale, window, shape, None)
    y1, x1, y2, x2 = window
    assert (result[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2] == 200).all()


def test_crop_is_random_reproducible_and_shared_with_the_mask():
    image = np.random.default_rng(9).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    results = [
        resizing.resize_image(image, min_dim=64, mode="crop", rng=np.random.default_rng(seed)) for seed in (0, 0, 1)
    ]
    crops = [result[4] for result in results]
    assert crops[0] == crops[1] != crops[2]
    cropped, window, scale, padding, crop = results[0]
    assert cropped.shape == (64, 64, 3) and window == (0, 0, 64, 64)
    bright = resizing.resize_mask(image.max(axis=-1, keepdims=True) > 128, scale, padding, crop)
    assert bright.shape == (64, 64, 1)
    random.seed(5)
    first = resizing.resize_image(image, min_dim=64, mode="crop")[4]
    random.seed(5)
    assert resizing.resize_image(image, min_dim=64, mode="crop")[4] == first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mode": "stretch"}, "mode must be"),
        ({"mode": "square"}, "needs max_dim"),
        ({"mode": "crop"}, "needs min_dim"),
        ({"mode": "pad64", "min_dim": 100}, "multiple of 64"),
    ],
)
def test_resize_image_says_what_a_mode_needs(settings, message):
    with pytest.raises(ValueError, match=message):
        resizing.resize_image(np.zeros((8, 8, 3), np.uint8), **settings)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_resize_image_keeps_any_number_of_channels(channels):
    image = np.random.default_rng(10).integers(0, 256, (20, 30, channels), dtype=np.uint8)
    assert resizing.resize_image(image, min_dim=40, max_dim=64)[0].shape == (64, 64, channels)


@pytest.mark.parametrize("size", [(60, 80), (300, 500)])
def test_resize_mask_takes_the_nearest_pixel(size):
    stack = disks(size, [(size[0] * 0.4, size[1] * 0.4, 15), (10, 10, 5)])
    _, window, scale, padding, _ = resizing.resize_image(np.zeros((*size, 3)), min_dim=200, max_dim=256)
    result = resizing.resize_mask(stack, scale, padding)
    assert result.shape == (256, 256, 2) and result.dtype == bool
    for y, x in np.random.default_rng(11).integers(0, 256, (200, 2)):
        inside = window[0] <= y < window[2] and window[1] <= x < window[3]
        source_y = (y - window[0] + 0.5) * size[0] / (window[2] - window[0])
        source_x = (x - window[1] + 0.5) * size[1] / (window[3] - window[1])
        expected = stack[int(source_y), int(source_x)] if inside else np.zeros(2, bool)
        np.testing.assert_array_equal(result[y, x], expected)


def test_resize_mask_takes_label_images():
    labels = np.arange(12, dtype=np.int32).reshape(3, 4)
    result = resizing.resize_mask(labels, 2, [(1, 0), (0, 2), (0, 0)])
    expected = np.pad(labels.repeat(2, axis=0).repeat(2, axis=1), [(1, 0), (0, 2)])
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(resizing.resize_mask(labels, 1, [(0, 0)] * 3, (1, 1, 2, 3)), labels[1:3, 1:4])
