"""Splitting a mask into nuclei, and scoring them."""

import numpy as np
import pytest
from skimage.measure import regionprops
from skimage.morphology import convex_hull_image

from nucleus.models.classical.config import ClassicalConfig
from nucleus.models.classical.scores import border_contrast, score_nuclei, solidity
from nucleus.models.classical.separation import distance_inside, separate

WATERSHED = {"SEPARATION": "watershed", "MIN_AREA": 0}


def config(**settings):
    return ClassicalConfig().update({"MIN_AREA": 0, **settings})


def circles(*places, shape=(90, 120)):
    y, x = np.mgrid[: shape[0], : shape[1]]
    return np.any([(y - row) ** 2 + (x - column) ** 2 <= radius**2 for row, column, radius in places], axis=0)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_touching_nuclei_are_split_half_way_at_any_size(scale):
    mask = circles((45, 30, 7 * scale), (45, 30 + 12 * scale, 7 * scale))
    assert separate(mask, config()).max() == 1
    labels = separate(mask, config(SEPARATION="watershed"))
    assert labels.max() == 2 and np.array_equal(labels > 0, mask)
    left, right = (np.nonzero(labels == number)[1] for number in (1, 2))
    assert min(left.max(), right.max()) == pytest.approx(30 + 6 * scale, abs=1.5)


def test_a_chain_of_three_and_one_alone():
    labels = separate(circles((20, 20, 10), (20, 36, 10), (20, 52, 10), (70, 90, 12)), config(SEPARATION="watershed"))
    assert labels.max() == 4


def test_long_nuclei_and_bumps_are_not_split():
    y, x = np.mgrid[:90, :120]
    ellipse = ((y - 45) / 8) ** 2 + ((x - 60) / 40) ** 2 <= 1
    assert separate(ellipse, config(SEPARATION="watershed")).max() == 1
    bump = circles((45, 60, 25), (45, 84, 6))
    assert separate(bump, config(SEPARATION="watershed", DISTANCE_SMOOTHING=1.0)).max() == 1


def test_less_neck_joins_more():
    mask = circles((45, 40, 14), (45, 58, 14))
    neck = np.sqrt(14**2 - 9**2) / 14
    assert separate(mask, config(**WATERSHED, DISTANCE_SMOOTHING=0.0, NECK=neck + 0.08)).max() == 2
    assert separate(mask, config(**WATERSHED, DISTANCE_SMOOTHING=0.0, NECK=neck - 0.08)).max() == 1


def test_holes_and_specks():
    mask = circles((30, 30, 12))
    mask[28:32, 28:32] = False
    mask[70, 100] = True
    assert np.array_equal(separate(mask, config(MIN_AREA=2)) > 0, circles((30, 30, 12)))
    kept = separate(mask, config(FILL_HOLES=False))
    assert np.array_equal(kept > 0, mask) and kept.max() == 2


def test_what_lies_outside_the_image_is_no_background():
    distance = distance_inside(circles((0, 60, 20)))
    assert distance[0, 60] >= distance.max() - 1
    assert separate(np.ones((5, 6), bool), config(SEPARATION="watershed")).tolist() == [[1] * 6] * 5


def test_nothing():
    labels = separate(np.zeros((4, 5), bool), config(SEPARATION="watershed"))
    assert labels.dtype == np.int32 and not labels.any()
    assert score_nuclei(labels, np.zeros((4, 5), np.float32)).shape == (0,)


def test_solidity_is_that_of_scikit_image(disks):
    labels = disks()[1]
    labels[50, 40:80] = 2
    hulls = [convex_hull_image(region.image, offset_coordinates=False) for region in regionprops(labels)]
    expected = [region.area / hull.sum() for region, hull in zip(regionprops(labels), hulls, strict=True)]
    np.testing.assert_allclose(solidity(labels), expected, atol=0.01)
    assert solidity(labels)[1] < 0.75 < 0.95 < solidity(labels)[0]
    single = np.array([[1, 0, 2, 2]], np.int32)
    assert solidity(single).tolist() == [1, 1]
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.int32)
    assert solidity(cross).tolist() == [1]
    corner = np.array([[1, 0, 0], [1, 0, 0], [1, 1, 1]], np.int32)
    assert solidity(corner)[0] == pytest.approx(5 / 6)


def test_contrast_is_what_is_lost_across_the_border():
    labels, levels = np.zeros((20, 40), np.int32), np.zeros((20, 40), np.float32)
    labels[5:12, 5:12], labels[5:12, 25:32] = 1, 2
    levels[:, 20:] = 0.6
    levels[labels == 1] = 1
    levels[labels == 2] = 0.8
    np.testing.assert_allclose(border_contrast(labels, levels), [1, 0.25], atol=1e-6)
    np.testing.assert_allclose(score_nuclei(labels, levels), [1, 0.25], atol=1e-6)
    enclosed = np.full((9, 9), 2, np.int32)
    enclosed[4, 4] = 1
    assert border_contrast(enclosed, np.ones((9, 9), np.float32)).tolist() == [0, 0]
