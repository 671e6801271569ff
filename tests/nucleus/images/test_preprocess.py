"""CLAHE raises local contrast of luminance and leaves hue alone."""

import cv2
import numpy as np
import pytest
import skimage.color
import skimage.data

from nucleus.images.preprocess import Clahe

COLOUR = skimage.data.immunohistochemistry()[:256, :320]


def test_only_luminance_changes():
    result = Clahe(2.0)(COLOUR)
    before, after = (skimage.color.rgb2lab(image) for image in (COLOUR, result))
    inside = (result > 0).all(axis=2) & (result < 255).all(axis=2)  # elsewhere RGB had no room for the colour
    assert np.abs(after - before)[inside][:, 1:].mean() < 1.5
    assert after[..., 0].std() > 1.1 * before[..., 0].std()
    assert result.dtype == np.uint8 and result.shape == COLOUR.shape


def test_grey_stays_grey_and_gains_contrast():
    grey = np.repeat(skimage.data.coins()[..., None] // 3, 3, axis=2)
    result = Clahe()(grey)
    assert (result[..., 0] == result[..., 1]).all() and (result[..., 0] == result[..., 2]).all()
    assert result.std() > 1.1 * grey.std()


def test_settings_matter_and_the_grid_is_rows_by_columns():
    weak, strong = Clahe(1.0)(COLOUR), Clahe(8.0)(COLOUR)
    assert skimage.color.rgb2gray(strong).std() > skimage.color.rgb2gray(weak).std()
    # Two tiles one above the other: columns are all treated alike, rows are not.
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = 40
    image[32:] += 100
    lightness = cv2.cvtColor(Clahe(40.0, (2, 1))(image), cv2.COLOR_RGB2LAB)[..., 0]
    assert (lightness[:, 0::2] == lightness[:, :1]).all() and (lightness[:, 1::2] == lightness[:, 1:2]).all()
    assert len(np.unique(lightness[:, 0])) > 2


@pytest.mark.parametrize("options", [{"clip_limit": 0}, {"tile_grid": (0, 8)}, {"tile_grid": (8,)}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="CLAHE"):
        Clahe(**options)


@pytest.mark.parametrize("image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3), np.float32)])
def test_other_images_are_refused(image):
    with pytest.raises(ValueError, match="expects uint8"):
        Clahe()(image)
