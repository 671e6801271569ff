"""Resizing: whole images, labels that are never mixed, probabilities at the image's size."""

import numpy as np
import pytest

from unet.inference import predict_resized
from unet.resize import resize_image, resize_labels, resize_probabilities


@pytest.fixture
def labels():
    """Columns of two pixels, numbered, 16 x 64."""
    return np.repeat(np.arange(1, 33, dtype=np.int32), 2)[None].repeat(16, axis=0)


def test_labels_are_those_at_the_centres_of_the_pixels(labels):
    np.testing.assert_array_equal(resize_labels(labels, 32), labels.repeat(2, axis=0)[:, 1::2])
    np.testing.assert_array_equal(resize_labels(labels, 128), labels.repeat(8, axis=0).repeat(2, axis=1))
    assert resize_labels(labels, 32).dtype == np.int32


@pytest.mark.parametrize("channels", [1, 3])
def test_images_keep_channels_type_and_mean(channels):
    image = np.random.default_rng(0).integers(0, 256, (48, 64, channels), np.uint8)
    for side in (16, 100):
        resized = resize_image(image, side)
        assert resized.shape == (side, side, channels) and resized.dtype == np.uint8
        assert abs(resized.mean() - image.mean()) < 2
    assert resize_image(image, 16).std() < 0.5 * image.std(), "averaged where it shrinks"
    np.testing.assert_array_equal(resize_image(np.full((64, 64, channels), 7, np.uint8), 16), 7)


@pytest.mark.parametrize("channels", [1, 3])
def test_probabilities_follow_the_image(channels):
    small = np.random.default_rng(1).random((8, 8, channels), np.float32)
    found = resize_probabilities(small, (24, 40))
    assert found.shape == (24, 40, channels) and found.dtype == np.float32
    # The centre of every cell of 3 x 5 pixels is a pixel, and has the cell's own value.
    np.testing.assert_allclose(found[1::3, 2::5], small, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (20, 50), (128, 64)])
def test_a_resized_image_is_predicted_whole(shape):
    image = np.full((*shape, 3), 51, np.uint8)
    image[: shape[0] // 2] = 204
    seen = []

    def run(batch):
        seen.append(batch)
        return batch[..., :2] / 255

    (probabilities,) = predict_resized(run, [image], 32)
    assert seen[0].shape == (1, 32, 32, 3) and seen[0].dtype == np.float32
    assert probabilities.shape == (*shape, 2) and probabilities.dtype == np.float32
    away = np.abs(np.arange(shape[0]) + 0.5 - shape[0] // 2) > shape[0] / 16
    np.testing.assert_allclose(probabilities[away], image[away][..., :2] / 255, atol=1e-5)
