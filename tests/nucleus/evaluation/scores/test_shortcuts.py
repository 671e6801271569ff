"""The common scores of two label images against a NumPy loop over boolean masks, and their edge cases."""

import numpy as np
import pytest

from nucleus.evaluation.scores import THRESHOLDS, average_precision, count_matches, iou_matrix, overlaps, pixel_iou


def loop_iou(truth, predicted):
    truth_masks = [truth == label for label in np.unique(truth) if label]
    predicted_masks = [predicted == label for label in np.unique(predicted) if label]
    matrix = np.zeros((len(truth_masks), len(predicted_masks)))
    for row, one in enumerate(truth_masks):
        for column, other in enumerate(predicted_masks):
            matrix[row, column] = (one & other).sum() / (one | other).sum()
    return matrix


def loop_average_precision(truth, predicted):
    matrix = loop_iou(truth, predicted)
    precisions = []
    for threshold in THRESHOLDS:
        hits = sum(bool((row > threshold).any()) for row in matrix)
        misses = matrix.shape[0] - hits
        ghosts = matrix.shape[1] - sum(bool((column > threshold).any()) for column in matrix.T)
        precisions.append(hits / (hits + misses + ghosts))
    return np.mean(precisions)


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_a_loop_over_masks(seed, blobs):
    rng = np.random.default_rng(seed)
    truth = blobs(rng)
    predicted = np.roll(truth, rng.integers(-2, 3, size=2), axis=(0, 1))
    predicted[blobs(rng, count=2) > 0] = 999
    np.testing.assert_allclose(iou_matrix(truth, predicted), loop_iou(truth, predicted), atol=1e-12)
    assert average_precision(truth, predicted) == pytest.approx(loop_average_precision(truth, predicted))


def test_an_iou_equal_to_the_threshold_is_no_match():
    truth = np.array([[1, 1, 1, 1, 1]])
    predicted = np.array([[1, 1, 1, 0, 0]])
    counts = count_matches(overlaps(truth, predicted), [0.5, 0.6])
    np.testing.assert_array_equal(counts.true_positives, [1, 0])
    np.testing.assert_array_equal(counts.false_positives, [0, 1])
    np.testing.assert_array_equal(counts.false_negatives, [0, 1])
    np.testing.assert_array_equal(counts.average_precision, [1, 0])
    assert average_precision(truth, predicted) == pytest.approx(0.2)


def test_nothing_to_find_and_nothing_found_is_perfect():
    empty, one = np.zeros((4, 4), np.int32), np.eye(4, dtype=np.int32)
    assert average_precision(empty, empty) == 1
    assert average_precision(empty, one) == 0
    assert average_precision(one, empty) == 0
    assert average_precision(one, one) == 1


def test_bad_input_is_refused():
    labels = np.ones((4, 4), np.int32)
    with pytest.raises(ValueError, match=r"truth \(4, 4\), predicted \(4, 5\)"):
        average_precision(labels, np.ones((4, 5), np.int32))
    with pytest.raises(ValueError, match="integer label image"):
        average_precision(labels, labels.astype(np.float32))
    with pytest.raises(ValueError, match="negative"):
        average_precision(-labels, labels)
    with pytest.raises(ValueError, match="thresholds lie in"):
        count_matches(overlaps(labels, labels), [1.3])


def test_pixel_iou_sees_the_foreground_only():
    rng = np.random.default_rng(3)
    truth, predicted = (rng.integers(0, 4, (20, 30)) * rng.integers(0, 2, (20, 30)) for _ in range(2))
    a, b = truth > 0, predicted > 0
    assert pixel_iou(truth, predicted) == pytest.approx((a & b).sum() / (a | b).sum())
    empty = np.zeros((4, 4), int)
    assert pixel_iou(empty, empty) == 1.0
    assert pixel_iou(empty, np.ones((4, 4), int)) == pixel_iou(np.ones((4, 4), int), empty) == 0.0
    with pytest.raises(ValueError, match="shape"):
        pixel_iou(empty, np.zeros((4, 5), int))
