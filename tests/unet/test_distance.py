"""Distances to the background are exact, whatever the number of threads."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from unet.distance import distance_to_background


@pytest.fixture
def threads():
    """Sets OpenCV's number of threads for a test."""
    before = cv2.getNumThreads()
    yield cv2.setNumThreads
    cv2.setNumThreads(before)


def test_distances_are_the_same_on_any_number_of_threads(threads):
    mask = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(700, 900)), 25) > -0.01
    found = []
    for count in (1, 2, 5):
        threads(count)
        found.append(distance_to_background(mask))
    assert found[0].max() > 100 and found[0].dtype == np.float32
    np.testing.assert_array_equal(found[0], ndimage.distance_transform_edt(mask).astype(np.float32))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
