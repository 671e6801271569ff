"""Counts at IoU thresholds against loops over boolean masks, SciPy's assignment and StarDist's matching."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from nucleus.evaluation.scores.matching import THRESHOLDS, Matches, average_precision_curve, count_matches
from nucleus.evaluation.scores.overlaps import overlaps

EVERY = np.array([0.1, 0.23, 0.37, *THRESHOLDS])


def test_counts_are_those_of_the_best_assignment_of_masks(images):
    counts = count_matches(overlaps(images.truth, images.predicted), EVERY)
    for index, threshold in enumerate(EVERY):
        possible = images.iou > threshold
        hits = possible[linear_sum_assignment(possible, maximize=True)].sum()
        assert counts.true_positives[index] == hits
        assert counts.false_positives[index] == len(images.predicted_masks) - hits
        assert counts.false_negatives[index] == len(images.truth_masks) - hits


def test_scores_are_the_textbook_quotients(images):
    counts = count_matches(overlaps(images.truth, images.predicted), [0.5])
    tp, fp, fn = (int(n[0]) for n in (counts.true_positives, counts.false_positives, counts.false_negatives))
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    assert min(tp, fp, fn) > 0
    assert counts.precision == pytest.approx(precision)
    assert counts.recall == pytest.approx(recall)
    assert counts.f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert counts.average_precision == pytest.approx(tp / (tp + fp + fn))


def test_agrees_with_stardist(images):
    matching = pytest.importorskip("stardist.matching").matching
    counts = count_matches(overlaps(images.truth, images.predicted), EVERY)
    for index, threshold in enumerate(EVERY):
        # StarDist matches from the threshold on, in float32; no IoU of such small masks is so close above one of ours.
        expected = matching(images.truth, images.predicted, thresh=threshold + 1e-6)
        assert (counts.true_positives[index], counts.false_positives[index]) == (expected.tp, expected.fp)
        assert counts.precision[index] == pytest.approx(expected.precision)
        assert counts.recall[index] == pytest.approx(expected.recall)
        assert counts.f1[index] == pytest.approx(expected.f1)
        assert counts.average_precision[index] == pytest.approx(expected.accuracy)


def test_below_one_half_a_nucleus_is_matched_once():
    truth = np.ones((1, 9), np.int32)
    predicted = np.repeat([1, 2, 3], 3)[None]
    counts = count_matches(overlaps(truth, predicted), 0.3)
    assert (counts.true_positives, counts.false_positives, counts.false_negatives) == (1, 2, 0)


def test_an_iou_equal_to_the_threshold_is_no_match():
    pair = overlaps(np.array([[1, 1, 1, 1, 1]]), np.array([[1, 1, 1, 0, 0]]))
    counts = count_matches(pair, [0.5, 0.6])
    np.testing.assert_array_equal(counts.true_positives, [1, 0])
    np.testing.assert_array_equal(counts.false_positives, [0, 1])
    np.testing.assert_array_equal(counts.false_negatives, [0, 1])


@pytest.mark.parametrize("score", ["average_precision", "precision", "recall", "f1"])
@pytest.mark.parametrize(("case", "value"), [("neither", 1), ("no truth", 0), ("no prediction", 0), ("same", 1)])
def test_edge_cases_have_one_value_in_every_score(edge_cases, case, value, score):
    counts = count_matches(overlaps(*edge_cases[case]), [0.2, 0.5, 0.95])
    np.testing.assert_array_equal(getattr(counts, score), [value] * 3)


def test_images_add_up_to_the_scores_of_all_their_nuclei(edge_cases):
    total = sum(count_matches(overlaps(*images)) for images in edge_cases.values())
    assert isinstance(total, Matches)
    np.testing.assert_array_equal(total.true_positives, [2] * 10)
    np.testing.assert_array_equal(total.precision, [0.5] * 10)
    np.testing.assert_allclose(total.average_precision, [1 / 3] * 10)
    with pytest.raises(ValueError, match=r"true_positives \(10,\) and \(1,\)"):
        total + count_matches(overlaps(*edge_cases["same"]), 0.7)


def test_the_curve_is_the_mean_over_images(images, edge_cases):
    pairs = [overlaps(images.truth, images.predicted), overlaps(*edge_cases["no truth"])]
    curve = average_precision_curve(pairs, [0.5, 0.6])
    assert list(curve.columns) == ["threshold", "AP"]
    np.testing.assert_array_equal(curve["threshold"], [0.5, 0.6])
    np.testing.assert_allclose(curve["AP"], count_matches(pairs[0], [0.5, 0.6]).average_precision / 2)
    with pytest.raises(ValueError, match="no image"):
        average_precision_curve([])


@pytest.mark.parametrize("threshold", [-0.1, 1.1, np.nan])
def test_a_threshold_that_no_iou_can_have_is_refused(edge_cases, threshold):
    with pytest.raises(ValueError, match="thresholds lie in"):
        count_matches(overlaps(*edge_cases["same"]), threshold)
