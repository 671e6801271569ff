"""The steps from the RPN's outputs to proposals against NumPy, and their saving."""

import numpy as np
import pytest

from mrcnn.rpn import proposals

pytestmark = pytest.mark.backend
DEVIATION = (0.1, 0.1, 0.2, 0.2)


def test_anchors_repeat_for_every_image(run_layer):
    anchors = np.random.default_rng(0).uniform(size=(7, 4)).astype(np.float32)
    np.testing.assert_array_equal(
        run_layer(proposals.Anchors(anchors), np.zeros((2, 8, 8, 3))), np.stack([anchors] * 2)
    )


@pytest.mark.parametrize("limit", [4, 50])
def test_top_anchors(limit, run_layer):
    rng = np.random.default_rng(0)
    probabilities, deltas, anchors = (rng.uniform(size=(2, 9, size)).astype(np.float32) for size in (2, 4, 4))
    top_anchors, scores, top_deltas = run_layer(proposals.TopAnchors(limit, DEVIATION), probabilities, deltas, anchors)
    for image in range(2):
        order = np.argsort(-probabilities[image, :, 1])[:limit]
        np.testing.assert_array_equal(top_anchors[image], anchors[image, order])
        np.testing.assert_array_equal(scores[image], probabilities[image, order, 1])
        np.testing.assert_allclose(top_deltas[image], deltas[image, order] * DEVIATION, rtol=1e-6)


def test_anchors_of_zeros_in_the_padding_come_last(run_layer):
    probabilities, deltas, anchors = np.full((1, 3, 2), [0.1, 0.9]), np.zeros((1, 3, 4)), np.full((1, 3, 4), 0.5)
    anchors[0, 0] = 0
    probabilities[0, 1] = 0.4
    kept, scores, _ = run_layer(proposals.TopAnchors(3, DEVIATION), probabilities, deltas, anchors)
    np.testing.assert_allclose(scores[0], [0.9, 0.4, 0], rtol=1e-6)
    assert kept[0, :, 0].tolist() == [0.5, 0.5, 0]


def test_nothing_is_proposed_of_anchors_beyond_the_image(run_layer):
    anchors = np.array([[[0, 0, 1, 1], [-0.1, 0.2, 0.5, 0.5], [0.3, 0.3, 0.6, 1.01], [0.2, 0.2, 0.4, 0.4]]])
    probabilities = np.full((1, 4, 2), 0.5)
    kept, boxes = run_layer(proposals.InsideAnchors(), probabilities, anchors)
    assert kept[0, :, 1].tolist() == [0.5, 0, 0, 0.5]
    np.testing.assert_allclose(boxes[0], anchors[0] * [[1], [0], [0], [1]], rtol=1e-6)


def test_boxes_are_refined_clipped_suppressed_and_selected(run_layer, decode_one):
    boxes = np.array([[[0.1, 0.1, 0.4, 0.4], [0.1, 0.1, 0.4, 0.42], [0.5, 0.5, 0.9, 1.3], [0.6, 0, 0.9, 0.2]]])
    deltas = np.random.default_rng(0).normal(0, 0.01, (1, 4, 4))
    refined = run_layer(proposals.RefinedBoxes(), boxes, deltas)
    expected = [decode_one(*pair) for pair in zip(boxes[0], deltas[0], strict=True)]
    np.testing.assert_allclose(refined[0], expected, atol=1e-6)
    clipped = run_layer(proposals.ClippedBoxes(), boxes)
    np.testing.assert_allclose(clipped[0, 2], [0.5, 0.5, 0.9, 1.0])
    kept = run_layer(proposals.SuppressedBoxes(5, 0.5), clipped, np.array([[0.3, 0.4, 0.9, 0.1]]))
    assert kept.tolist() == [[2, 1, 3, -1, -1]]
    selected = run_layer(proposals.SelectedBoxes(), clipped, kept)
    np.testing.assert_array_equal(selected[0], [*clipped[0, [2, 1, 3]], [0] * 4, [0] * 4])


@pytest.mark.parametrize(
    "layer",
    [
        proposals.Anchors([[0.0, 0.0, 1.0, 1.0]], name="anchors"),
        proposals.TopAnchors(10, DEVIATION, name="top"),
        proposals.InsideAnchors(name="inside"),
        proposals.RefinedBoxes(name="refined"),
        proposals.ClippedBoxes(name="clipped"),
        proposals.SuppressedBoxes(10, 0.7, name="suppressed"),
        proposals.SelectedBoxes(name="selected"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_settings_survive_saving(layer, check_settings):
    check_settings(layer)
