"""Outlines can be seen on every image, and change nothing else of it."""

import numpy as np
import pytest

from nucleus.images.outlines import draw_outlines


@pytest.fixture
def labels():
    """Two nuclei that touch, and one apart."""
    labels = np.zeros((20, 30), np.int32)
    labels[2:6, 3:9], labels[6:12, 3:5], labels[15:19, 20:24] = 1, 2, 3
    return labels


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_outlines_show_on_every_brightness_and_spare_the_inside(labels, grey):
    image = np.full((*labels.shape, 3), grey, np.uint8)
    drawn = draw_outlines(image, labels).astype(int)
    assert (image == grey).all()
    np.testing.assert_array_equal(drawn[16:18, 21:23], grey)
    np.testing.assert_array_equal(drawn[0, :], grey)
    # Along the border of every nucleus the coloured and the darkened pixel differ clearly.
    assert (abs(drawn[15, 20:24] - drawn[14, 20:24]).max(axis=1) > 100).all()
    assert (drawn[5, 3] != drawn[6, 3]).any(), "touching nuclei have different colours"


def test_one_colour_for_all_outlines(labels):
    drawn = draw_outlines(np.zeros((*labels.shape, 3), np.uint8), labels, colour=(255, 255, 0))
    np.testing.assert_array_equal(np.unique(drawn[drawn.any(axis=2)], axis=0), [[255, 255, 0]])
    with pytest.raises(ValueError, match="differ in shape"):
        draw_outlines(np.zeros((5, 5, 3), np.uint8), labels)
