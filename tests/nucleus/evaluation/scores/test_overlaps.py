"""The one histogram against boolean masks, and what is refused."""

import numpy as np
import pytest

from nucleus.evaluation.scores import average_precision, glas_scores, nucleus_table
from nucleus.evaluation.scores.overlaps import instance_indices, overlaps


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


INTEGERS = [np.dtype(sign + size) for sign in "iu" for size in "1248"]


def renamed(labels, dtype, highest):
    """Gives a label image the lowest, or the highest labels of a type; returns it and the labels, ascending."""
    ids, inverse = np.unique(labels, return_inverse=True)
    count = len(ids) - 1
    first = np.iinfo(dtype).max - count + 1 if highest else 1
    names = list(range(first, first + count))
    return np.array([0, *names], dtype)[inverse].reshape(labels.shape), names


@pytest.mark.parametrize("highest", [False, True], ids=["low", "high"])
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_every_integer_type_gives_the_same_up_to_its_highest_label(images, dtype, highest):
    expected = overlaps(images.truth, images.predicted)
    truth, truth_names = renamed(images.truth, dtype, highest)
    ids, indices = instance_indices(truth)
    assert ids.tolist() == truth_names and ids.dtype == (np.uint64 if truth_names[-1] >= 2**63 else np.int64)
    np.testing.assert_array_equal(indices, instance_indices(images.truth)[1])
    for other in INTEGERS:
        predicted, predicted_names = renamed(images.predicted, other, highest)
        pair = overlaps(truth, predicted)
        assert (pair.truth_ids.tolist(), pair.predicted_ids.tolist()) == (truth_names, predicted_names)
        assert pair.truth is truth and pair.predicted is predicted
        for name in ("truth_areas", "predicted_areas", "truth_index", "predicted_index", "intersections"):
            np.testing.assert_array_equal(getattr(pair, name), getattr(expected, name))


@pytest.mark.parametrize(
    ("dtype", "labels"),
    [
        (np.uint32, [4_000_000_000, 4_000_000_001]),
        (np.int64, [2**33, 2**33 + 1]),
        (np.int64, [1, 2**63 - 1]),
        (np.uint64, [1, 2**53 + 1, 2**53 + 2, 2**64 - 1]),
    ],
)
def test_labels_far_apart_keep_their_names_and_a_label_image_equals_itself(dtype, labels):
    image = np.repeat(np.array([0, *labels], dtype), 3)[None]
    pair = overlaps(image, image)
    assert pair.truth_ids.tolist() == pair.predicted_ids.tolist() == labels
    np.testing.assert_array_equal(pair.truth_areas, [3] * len(labels))
    np.testing.assert_array_equal(pair.iou, [1] * len(labels))
    assert average_precision(image, image) == 1
    assert nucleus_table(pair)["label"].tolist() == labels
    assert glas_scores(pair).f1 == 1 and glas_scores(pair).hausdorff == 0


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
    for signed in "i1", "i2", "i4", "i8":
        with pytest.raises(ValueError, match=r"truth has negative labels\. Received: -1"):
            overlaps(-labels.astype(signed), labels)
        with pytest.raises(ValueError, match="predicted has negative labels"):
            overlaps(labels.astype(np.uint64), np.full_like(labels, np.iinfo(signed).min, signed))
