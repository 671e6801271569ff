"""Windows are cut alike out of image and label image, and magnifying and turning neither shift nor widen nuclei."""

import numpy as np
import pytest

from unet.config import UNetConfig
from unet.data import training_sample
from unet.windows import random_warped_window, warped_window


def disc(side, centre, radius):
    """A disc as image (bright) and label image (5)."""
    y, x = np.mgrid[:side, :side]
    inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2
    return np.repeat(np.uint8(200) * inside[..., None], 3, axis=2), np.int32(5) * inside


def test_unchanged_scale_and_angle_is_a_plain_crop():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    labels = rng.integers(0, 70000, (40, 50)).astype(np.int32)
    window, cut = warped_window(image, labels, 16, 1.0, 0.0, (20.0, 30.0))
    np.testing.assert_array_equal(window, image[12:28, 22:38])
    np.testing.assert_array_equal(cut, labels[12:28, 22:38])


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.3, 2.0])
@pytest.mark.parametrize("angle", [0.0, 30.0, -75.0])
def test_nuclei_keep_their_place_and_area(scale, angle):
    radius, centre = 20.0, (163.0, 170.0)
    image, labels = disc(320, centre, radius)
    # Pixel p's centre is half a pixel from its corner, so the disc's is in the window's middle.
    window, cut = warped_window(image, labels, 128, scale, angle, (centre[0] + 0.5, centre[1] + 0.5))
    assert (cut == 5).sum() == pytest.approx(np.pi * (radius * scale) ** 2, rel=0.03)
    np.testing.assert_allclose(np.argwhere(cut == 5).mean(axis=0), 63.5, atol=0.3)
    # The image agrees: where it is more than half bright is the label image's disc.
    assert ((window[..., 0] > 100) != (cut == 5)).mean() < 0.01


def test_a_turn_turns_the_image_as_it_does_the_labels():
    image, labels = disc(65, (32, 50), 6)
    window, cut = warped_window(image, labels, 65, 1.0, 90.0, (32.5, 32.5))
    np.testing.assert_array_equal(window[..., 0] > 100, cut == 5)
    y, x = np.argwhere(cut == 5).mean(axis=0)
    assert abs(abs(y - 32) - 18) < 0.5 and abs(x - 32) < 0.5


def test_windows_lie_in_the_image_and_are_repeatable():
    labels = np.ones((200, 300), np.int32)
    labels[60:140, 60:240] = 2
    image = np.repeat((labels * 100).astype(np.uint8)[..., None], 3, axis=2)
    for seed in range(20):
        drawn = [
            random_warped_window(image, labels, 64, (0.5, 2.0), 0.0, np.random.default_rng(seed)) for _ in range(2)
        ]
        np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
        np.testing.assert_array_equal(drawn[0][1], drawn[1][1])
        assert drawn[0][0].shape == (64, 64, 3) and drawn[0][1].dtype == np.int32


def test_magnifications_spread_evenly_by_their_logarithm():
    stripes = np.broadcast_to((np.arange(2000) // 20 + 1)[None], (2000, 2000)).astype(np.int32)
    image = np.zeros((2000, 2000, 3), np.uint8)
    scales = []
    for seed in range(60):
        _, cut = random_warped_window(image, stripes, 256, (0.5, 2.0), 0.0, np.random.default_rng(seed))
        scales.append(256 / 20 / (cut[0, -1] - cut[0, 0]))
    assert 0.4 < min(scales) < 0.65 and 1.6 < max(scales) < 2.8
    assert 0.8 < np.exp(np.mean(np.log(scales))) < 1.3


def test_a_small_image_is_mirrored():
    image, labels = disc(20, (10, 10), 4)
    window, cut = random_warped_window(image, labels, 64, (1.0, 1.0), 45.0, np.random.default_rng(0))
    assert (cut == 5).sum() > 2 * (labels == 5).sum()
    assert ((window[..., 0] > 100) != (cut == 5)).mean() < 0.03


def test_labels_beyond_what_a_warp_can_hold_are_refused():
    labels = np.full((8, 8), 2**24 + 1, np.int32)
    with pytest.raises(ValueError, match="16777217"):
        warped_window(np.zeros((8, 8, 3), np.uint8), labels, 8, 1.0, 0.0, (4.0, 4.0))


class OneImage:
    image_ids = (0,)
    image_info = ({"id": "one"},)

    def __init__(self):
        self.image, self.labels = disc(96, (48, 48), 12)

    def load_image(self, image_id):
        return self.image

    def load_labels(self, image_id):
        return self.labels, np.ones(1, np.int32)


@pytest.mark.parametrize("warped", [True, False])
def test_training_magnifies_windows_and_validation_does_not(warped):
    config = UNetConfig.from_preset("efficientnet-lite0", {"IMAGE_SIZE": 64, "CROP_SCALES": (2.0, 2.0)})
    areas = []
    for seed in range(12):
        _, targets = training_sample(OneImage(), config, 0, rng=np.random.default_rng(seed), warped=warped)
        assert targets.shape[:2] == (64, 64)
        areas.append(int(targets[..., 0].sum()))
    area = (OneImage().labels > 0).sum()
    assert (max(areas) > 2 * area) == warped
