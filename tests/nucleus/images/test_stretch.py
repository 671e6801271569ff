"""Brightness is stretched between two quantiles of the whole image, without a change of hue."""

import numpy as np
import pytest

from nucleus.images.preprocess import Clahe
from nucleus.images.stretch import Stretch
from nucleus.models.base import preprocess
from nucleus.models.registry import make_config


def test_stretch_is_the_linear_map_between_numpys_quantiles():
    image = np.random.default_rng(0).integers(20, 90, (64, 80, 3), dtype=np.uint8)
    low, high = np.quantile(image, [0.01, 0.998], method="inverted_cdf")
    expected = np.clip((image.astype(float) - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(Stretch()(image), expected, atol=0.5)


def test_dim_and_bright_recordings_become_alike():
    y, x = np.mgrid[:64, :64]
    wave = (np.sin(x / 5.0) * np.cos(y / 7.0) + 1) / 2
    dim, bright = (np.repeat(np.rint(wave * top)[..., None], 3, 2).astype(np.uint8) for top in (40, 250))
    assert np.abs(Stretch()(dim).astype(int) - Stretch()(bright)).max() <= 255 // 40 + 1
    assert Stretch()(dim).max() == 255


def test_one_stretch_holds_for_all_channels():
    image = np.zeros((10, 10, 3), np.uint8)
    image[:5] = (40, 20, 10)
    np.testing.assert_array_equal(Stretch(0, 1)(image)[0, 0], np.rint(np.array([40, 20, 10]) * 255 / 40))


def test_sparse_and_constant_images():
    spot = np.zeros((100, 100, 3), np.uint8)
    spot[0, 0] = 30
    assert Stretch()(spot)[0, 0].tolist() == [255] * 3 and Stretch()(spot)[1, 1].tolist() == [0] * 3
    plain = np.full((8, 8, 3), 77, np.uint8)
    np.testing.assert_array_equal(Stretch()(plain), plain)


@pytest.mark.parametrize("quantiles", [(0.5, 0.5), (-0.1, 1), (0, 1.1)])
def test_quantiles_out_of_order_are_refused(quantiles):
    with pytest.raises(ValueError, match="Quantiles must rise"):
        Stretch(*quantiles)
    with pytest.raises(ValueError, match="STRETCH_QUANTILES"):
        make_config("training", None, {"STRETCH_QUANTILES": quantiles}, "unet")


def test_configuration_stretches_before_it_equalises():
    image = np.random.default_rng(0).integers(0, 60, (64, 64, 3), dtype=np.uint8)
    stretched, equalised, both = (
        preprocess(image, make_config("inference", None, dict.fromkeys(names, True), "unet"))
        for names in (["STRETCH"], ["CLAHE"], ["CLAHE", "STRETCH"])
    )
    np.testing.assert_array_equal(stretched, Stretch()(image))
    assert not np.array_equal(equalised, image)
    np.testing.assert_array_equal(both, Clahe()(Stretch()(image)))
    assert preprocess(image, make_config("inference", None, {}, "unet")) is image
