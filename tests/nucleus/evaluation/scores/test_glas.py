"""The GlaS challenge's scores against their definition, written over boolean masks with scikit-image's distance."""

import numpy as np
import pytest
from skimage.metrics import hausdorff_distance

from nucleus.evaluation.scores.glas import Glas, glas_scores
from nucleus.evaluation.scores.overlaps import overlaps


def one_sided(objects, others, score, alone):
    """Area-weighted mean of the scores of objects with the others they overlap most, as the challenge defines it."""
    total = sum(mask.sum() for mask in objects)
    result = 0.0
    for mask in objects:
        shared = [(mask & other).sum() for other in others]
        value = score(mask, others[np.argmax(shared)]) if max(shared) else alone(mask, others)
        result += mask.sum() / total * value
    return result


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_scores_follow_the_definition(images):
    truth, predicted = images.truth_masks, images.predicted_masks
    found = glas_scores(overlaps(images.truth, images.predicted))

    def mean(score, alone):
        return (one_sided(truth, predicted, score, alone) + one_sided(predicted, truth, score, alone)) / 2

    assert found.dice == pytest.approx(mean(dice, lambda mask, others: 0.0))
    closest = mean(hausdorff_distance, lambda mask, others: min(hausdorff_distance(mask, other) for other in others))
    assert found.hausdorff == pytest.approx(closest)
    hits = 0
    for mask in predicted:
        shared = [(mask & other).sum() for other in truth]
        hits += max(shared) > truth[np.argmax(shared)].sum() / 2
    precision, recall = hits / len(predicted), hits / len(truth)
    assert found.f1 == pytest.approx(2 * precision * recall / (precision + recall))


def test_half_an_object_does_not_detect_it():
    truth = np.ones((1, 8), np.int32)
    half, more = np.repeat([1, 0], 4)[None], np.repeat([1, 0], [5, 3])[None]
    assert glas_scores(overlaps(truth, half)).f1 == 0
    assert glas_scores(overlaps(truth, more)).f1 == 1


def test_one_prediction_detects_one_object():
    truth, predicted = np.repeat([1, 2], [5, 4])[None], np.ones((1, 9), np.int32)
    found = glas_scores(overlaps(truth, predicted))
    assert (found.detected, found.true, found.predicted) == (1, 2, 1)
    assert found.f1 == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("case", "score", "distance"), [("neither", 1, 0), ("no truth", 0, 10), ("no prediction", 0, 10), ("same", 1, 0)]
)
def test_edge_cases(edge_cases, case, score, distance):
    # The diagonal of an image of 6 x 8 pixels is 10.
    found = glas_scores(overlaps(*edge_cases[case]))
    assert (found.f1, found.dice, found.hausdorff) == (score, score, distance)


def test_areas_weigh_over_the_images_of_a_part(edge_cases):
    truth = np.zeros((6, 8), np.int32)
    truth[0, :6] = 1
    small = overlaps(truth, np.roll(truth, 2, axis=1))
    same = overlaps(*edge_cases["same"])
    total = glas_scores(same) + glas_scores(small)
    assert isinstance(total, Glas)
    area = same.truth_areas.sum()
    assert total.dice == pytest.approx((area + 6 * 4 / 6) / (area + 6))
    assert total.hausdorff == pytest.approx(6 * 2 / (area + 6))
    assert total.f1 == 1
