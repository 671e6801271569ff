"""Scores of the foreground against boolean arithmetic."""

import numpy as np
import pytest

from nucleus.evaluation.scores.overlaps import overlaps
from nucleus.evaluation.scores.pixels import count_pixels


def test_scores_see_the_foreground_only(images):
    a, b = images.truth > 0, images.predicted > 0
    pixels = count_pixels(overlaps(images.truth, images.predicted))
    assert pixels.iou == pytest.approx((a & b).sum() / (a | b).sum())
    assert pixels.dice == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))
    united = count_pixels(overlaps(a.astype(np.int32), b.astype(np.int32)))
    assert united == pixels


@pytest.mark.parametrize(("case", "value"), [("neither", 1), ("no truth", 0), ("no prediction", 0), ("same", 1)])
def test_edge_cases(edge_cases, case, value):
    pixels = count_pixels(overlaps(*edge_cases[case]))
    assert (pixels.iou, pixels.dice) == (value, value)


def test_images_add_up_to_the_scores_of_all_their_pixels(edge_cases):
    total = sum(count_pixels(overlaps(*edge_cases[case])) for case in ("same", "no truth"))
    assert total.iou == pytest.approx(1 / 2)
    assert total.dice == pytest.approx(2 / 3)
