"""Stains are varied in optical density."""

import numpy as np
from skimage.color import hed2rgb, rgb2hed

from nucleus.augmentation.stain_jitter import jitter_stains


def test_without_a_range_the_image_stays():
    image = np.random.default_rng(0).integers(1, 256, (16, 16, 3), dtype=np.uint8)
    np.testing.assert_allclose(jitter_stains(image, np.random.default_rng(0), 0.0, 0.0).astype(int), image, atol=1)


def test_amounts_change_by_one_factor_each():
    # A section with some of every stain, as scikit-image mixes them.
    amounts = np.random.default_rng(1).uniform(0.05, 0.2, (32, 32, 3))
    image = np.rint(hed2rgb(amounts) * 255).astype(np.uint8)
    jittered = jitter_stains(image, np.random.default_rng(2), factor=0.3, offset=0.0)
    before, after = rgb2hed(image), rgb2hed(jittered)
    for stain in range(3):
        strong = before[..., stain] > 0.1
        ratios = after[..., stain][strong] / before[..., stain][strong]
        assert 0.65 < np.median(ratios) < 1.35
        # Eight bits blur the amounts.
        assert ratios.std() < 0.08
        assert abs(np.median(ratios) - 1) > 0.01


def test_white_stays_about_white():
    white = np.full((4, 4, 3), 255, np.uint8)
    assert jitter_stains(white, np.random.default_rng(0)).min() > 225
