"""Hausdorff distances against scikit-image's, on full masks."""

import numpy as np
import pytest
from skimage.metrics import hausdorff_distance

from nucleus.evaluation.scores.hausdorff import Shapes, hausdorff, nearest


def test_every_pair_is_as_far_apart_as_scikit_image_says(images):
    truth, predicted = Shapes(images.truth), Shapes(images.predicted)
    for i, mask in enumerate(images.truth_masks):
        expected = [hausdorff_distance(mask, other) for other in images.predicted_masks]
        found = [hausdorff(truth, i, predicted, j) for j in range(len(expected))]
        np.testing.assert_allclose(found, expected)
        assert nearest(truth, i, predicted) == pytest.approx(min(expected))


def test_the_farthest_pixel_may_lie_inside():
    disc, ring = np.zeros((41, 41), np.int32), np.zeros((41, 41), np.int32)
    y, x = np.mgrid[-20:21, -20:21]
    disc[np.hypot(y, x) <= 15] = 1
    ring[(np.hypot(y, x) <= 15) & (np.hypot(y, x) > 12)] = 1
    expected = hausdorff_distance(disc > 0, ring > 0)
    assert expected > 12
    assert hausdorff(Shapes(disc), 0, Shapes(ring), 0) == expected
    assert nearest(Shapes(ring), 0, Shapes(disc)) == expected


def test_pixels_at_the_border_of_the_image_and_parts_apart_count():
    first, second = np.zeros((9, 12), np.int32), np.zeros((9, 12), np.int32)
    first[0, 0] = first[8, 11] = 5
    second[0:2, 0:2] = 8
    assert hausdorff(Shapes(first), 0, Shapes(second), 0) == pytest.approx(np.hypot(7, 10))
    assert hausdorff(Shapes(first), 0, Shapes(first), 0) == 0
