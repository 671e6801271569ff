"""Counting errors, and errors of division, on drawn cases and against boolean masks."""

import numpy as np
import pytest

from nucleus.evaluation.scores.numbers import Divisions, count_divisions, count_nuclei
from nucleus.evaluation.scores.overlaps import overlaps


def row(*runs):
    """A label image of one row from (label, length) pairs."""
    return np.concatenate([np.full(length, label) for label, length in runs])[None]


def test_the_count_metric_is_the_mean_quotient_of_the_numbers():
    two, five = row((1, 2), (4, 2), (0, 6)), row((1, 2), (2, 2), (3, 2), (9, 2), (7, 2))
    numbers = count_nuclei(overlaps(two, five)) + count_nuclei(overlaps(five, two)) + count_nuclei(overlaps(two, two))
    assert (numbers.images, numbers.true, numbers.predicted) == (3, 9, 9)
    assert numbers.ratio == pytest.approx((2 / 5 + 2 / 5 + 1) / 3)
    assert numbers.error == pytest.approx((3 + 3 + 0) / 3)


@pytest.mark.parametrize(
    ("case", "ratio", "error"), [("neither", 1, 0), ("no truth", 0, 2), ("no prediction", 0, 2), ("same", 1, 0)]
)
def test_edge_cases_of_counting(edge_cases, case, ratio, error):
    numbers = count_nuclei(overlaps(*edge_cases[case]))
    assert (numbers.ratio, numbers.error) == (ratio, error)


def test_one_nucleus_in_pieces_is_one_over_segmentation():
    truth = row((1, 9), (0, 1))
    assert count_divisions(overlaps(truth, row((1, 3), (2, 3), (3, 3), (0, 1)))) == Divisions(over=1, under=0)
    # One piece alone is a bad outline.
    assert count_divisions(overlaps(truth, row((1, 4), (0, 6)))) == Divisions(over=0, under=0)


def test_nuclei_detected_as_one_are_one_under_segmentation():
    truth = row((1, 3), (2, 3), (3, 3), (0, 1))
    assert count_divisions(overlaps(truth, row((1, 9), (0, 1)))) == Divisions(over=0, under=1)


def test_a_piece_belongs_to_the_nucleus_that_holds_more_than_half_of_it():
    truth = row((1, 6), (2, 6))
    # The second prediction lies half in each nucleus, so in neither.
    assert count_divisions(overlaps(truth, row((1, 3), (2, 6), (3, 3)))) == Divisions(over=0, under=0)
    assert count_divisions(overlaps(truth, row((1, 4), (2, 2), (3, 6)))) == Divisions(over=1, under=0)


def test_a_nucleus_that_was_found_is_not_divided():
    truth, predicted = row((1, 10)), row((1, 8), (2, 2))
    assert count_divisions(overlaps(truth, predicted), 0.7) == Divisions(over=0, under=0)
    assert count_divisions(overlaps(truth, predicted), 0.8) == Divisions(over=1, under=0)
    with pytest.raises(ValueError, match="unique"):
        count_divisions(overlaps(truth, predicted), 0.4)


def test_a_merge_is_an_under_segmentation_even_if_it_matches_the_larger_nucleus():
    truth, predicted = row((1, 8), (2, 2), (0, 2)), row((1, 10), (0, 2))
    assert count_divisions(overlaps(truth, predicted), 0.7) == Divisions(over=0, under=1)
    assert count_divisions(overlaps(truth, predicted), 0.8) == Divisions(over=0, under=1)
    # With less than half of the small one it is a good outline of the large one.
    assert count_divisions(overlaps(row((1, 8), (2, 4)), row((1, 9), (0, 3)))) == Divisions(over=0, under=0)


def test_divisions_are_those_of_the_masks(images):
    def divided(wholes, pieces):
        inside = np.array([[(a & b).sum() > b.sum() / 2 for b in pieces] for a in wholes])
        return inside.sum(axis=1) >= 2

    found = count_divisions(overlaps(images.truth, images.predicted), 0.6)
    missed = images.iou.max(axis=1) <= 0.6
    assert found.over == (divided(images.truth_masks, images.predicted_masks) & missed).sum()
    assert found.under == divided(images.predicted_masks, images.truth_masks).sum()


@pytest.mark.parametrize("case", ["neither", "no truth", "no prediction", "same"])
def test_without_nuclei_nothing_is_divided(edge_cases, case):
    assert count_divisions(overlaps(*edge_cases[case])) == Divisions(over=0, under=0)
