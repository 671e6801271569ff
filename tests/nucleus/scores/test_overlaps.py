"""The one histogram against boolean masks, and what is refused."""

import numpy as np
import pytest

from nucleus.scores.overlaps import instance_indices, overlaps


def test_every_overlap_and_area_is_that_of_the_masks(images):
    pair = overlaps(images.truth, images.predicted)
    shared = np.array([[(a & b).sum() for b in images.predicted_masks] for a in images.truth_masks])
    found = np.zeros_like(shared)
    found[pair.truth_index, pair.predicted_index] = pair.intersections
    np.testing.assert_array_equal(found, shared)
    assert pair.intersections.min() > 0
    np.testing.assert_array_equal(pair.truth_areas, [mask.sum() for mask in images.truth_masks])
    np.testing.assert_array_equal(pair.predicted_areas, [mask.sum() for mask in images.predicted_masks])
    np.testing.assert_allclose(pair.best_iou, images.iou.max(axis=1), atol=1e-12)
    np.testing.assert_array_equal(pair.partner_of_truth, np.where(shared.max(axis=1) > 0, shared.argmax(axis=1), -1))
    np.testing.assert_array_equal(
        pair.partner_of_predicted, np.where(shared.max(axis=0) > 0, shared.argmax(axis=0), -1)
    )


def test_labels_too_large_for_a_dense_histogram_give_the_same(images):
    small, large = (overlaps(images.truth * f, images.predicted * f) for f in (1, 2**20))
    np.testing.assert_array_equal(large.truth_ids, small.truth_ids * 2**20)
    np.testing.assert_array_equal(large.intersections, small.intersections)
    np.testing.assert_array_equal(large.predicted_index, small.predicted_index)


@pytest.mark.parametrize("factor", [1, 2**20])
def test_instances_are_numbered_by_ascending_label(images, factor):
    ids, indices = instance_indices(images.truth * factor)
    np.testing.assert_array_equal(ids, np.unique(images.truth)[1:] * factor)
    np.testing.assert_array_equal(indices, np.searchsorted(ids, images.truth * factor) - (images.truth == 0))
    everywhere = np.array([[2, 2, 1]]) * factor
    np.testing.assert_array_equal(instance_indices(everywhere)[1], [[1, 1, 0]])
    np.testing.assert_array_equal(instance_indices(np.zeros((2, 2), np.int32))[1], [[-1, -1], [-1, -1]])


def test_areas_count_the_pixels_under_the_background_too():
    found = overlaps(np.array([[5, 5, 0, 0]]), np.array([[0, 9, 9, 9]]))
    assert (found.truth_ids, found.truth_areas) == (5, 2)
    assert (found.predicted_ids, found.predicted_areas) == (9, 3)
    assert found.intersections == 1


def test_without_nuclei_nothing_has_a_partner(edge_cases):
    pair = overlaps(*edge_cases["no prediction"])
    np.testing.assert_array_equal(pair.best_iou, [0, 0])
    np.testing.assert_array_equal(pair.partner_of_truth, [-1, -1])
    assert len(pair.partner_of_predicted) == 0


def test_bad_input_is_refused():
    labels = np.ones((4, 4), np.int32)
    with pytest.raises(ValueError, match=r"truth \(4, 4\), predicted \(4, 5\)"):
        overlaps(labels, np.ones((4, 5), np.int32))
    with pytest.raises(ValueError, match="integer label image"):
        overlaps(labels, labels.astype(np.float32))
    with pytest.raises(ValueError, match="integer label image"):
        overlaps(np.ones((4, 4, 2), np.int32), np.ones((4, 4, 2), np.int32))
    with pytest.raises(ValueError, match="negative"):
        overlaps(-labels, labels)
