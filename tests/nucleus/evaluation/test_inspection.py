"""Protects the picture that tells found nuclei from wrong and missed ones."""

import numpy as np
import pytest

from nucleus.evaluation.inspection import FOUND, MISSED, SPURIOUS, draw_matches


@pytest.fixture
def scene():
    """Four nuclei, of which one is met, one split in two, one missed, one outlined badly; and one made up."""
    truth, predicted = np.zeros((2, 60, 60), np.int32)
    truth[5:15, 5:15] = 3
    predicted[5:15, 5:16] = 7
    truth[5:15, 30:50] = 4
    predicted[5:15, 30:40], predicted[5:15, 40:50] = 1, 2
    truth[30:40, 5:15] = 9
    truth[30:40, 30:40] = 1
    predicted[35:50, 30:40] = 5
    predicted[50:58, 5:12] = 6
    return np.full((60, 60, 3), 90, np.uint8), truth, predicted


def test_outlines_tell_what_was_found(scene):
    image, truth, predicted = scene
    picture, counts = draw_matches(image, truth, predicted)
    # Halves of the split nucleus have an IoU of 0.5 exactly, which is no match.
    assert counts == {"found": 1, "spurious": 4, "missed": 3}
    assert tuple(picture[5, 10]) == FOUND
    assert tuple(picture[30, 10]) == MISSED and tuple(picture[30, 35]) == MISSED
    assert tuple(picture[10, 40]) == SPURIOUS and tuple(picture[50, 8]) == SPURIOUS
    assert tuple(picture[10, 10]) == (90, 90, 90)
    assert (image == 90).all()


def test_a_higher_threshold_finds_less(scene):
    _, counts = draw_matches(*scene, threshold=0.95)
    assert counts == {"found": 0, "spurious": 5, "missed": 4}


def test_nothing_to_find_and_nothing_found():
    image, empty = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.int32)
    picture, counts = draw_matches(image, empty, empty)
    assert not picture.any() and counts == {"found": 0, "spurious": 0, "missed": 0}


def test_ambiguous_thresholds_are_refused(scene):
    with pytest.raises(ValueError, match=r"0\.4"):
        draw_matches(*scene, threshold=0.4)
