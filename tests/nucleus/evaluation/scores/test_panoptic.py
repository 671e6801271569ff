"""Panoptic quality against its definition over boolean masks."""

import pytest

from nucleus.evaluation.scores.overlaps import overlaps
from nucleus.evaluation.scores.panoptic import panoptic_quality


def test_quality_is_that_of_the_masks(images):
    matched = images.iou[images.iou > 0.5]
    false = images.iou.shape[0] + images.iou.shape[1] - 2 * len(matched)
    found = panoptic_quality(overlaps(images.truth, images.predicted))
    assert len(matched) > 0
    assert found.quality == pytest.approx(matched.sum() / (len(matched) + false / 2))
    assert found.segmentation_quality == pytest.approx(matched.mean())
    assert found.recognition_quality == pytest.approx(len(matched) / (len(matched) + false / 2))


@pytest.mark.parametrize(("case", "value"), [("neither", 1), ("no truth", 0), ("no prediction", 0), ("same", 1)])
def test_edge_cases(edge_cases, case, value):
    found = panoptic_quality(overlaps(*edge_cases[case]))
    assert (found.quality, found.segmentation_quality, found.recognition_quality) == (value, value, value)


def test_images_add_up(edge_cases):
    total = sum(panoptic_quality(overlaps(*edge_cases[case])) for case in ("same", "no truth", "neither"))
    assert total.quality == pytest.approx(2 / 3)
    assert total.segmentation_quality == 1
