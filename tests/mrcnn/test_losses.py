"""The five losses against NumPy, written out from their definitions."""

import numpy as np
import pytest
from keras import ops

from mrcnn import losses

pytestmark = pytest.mark.backend


def number(function, *arrays):
    """Calls a loss with tensors; floats become float32."""
    tensors = [
        None if array is None else ops.convert_to_tensor(array.astype(np.float32) if array.dtype.kind == "f" else array)
        for array in arrays
    ]
    if function is losses.rpn_bbox_loss_graph:
        return float(function(None, *tensors))
    return float(function(*tensors))


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def smooth_l1(difference):
    difference = np.abs(difference)
    return np.where(difference < 1, 0.5 * difference**2, difference - 0.5)


RNG = np.random.default_rng(0)
MATCH = np.array([[1, 0, -1, 1, 0], [0, -1, -1, 0, 1]], np.int32)[..., None]
# Class of every RoI: of three classes, 0 for background, -1 for an unused slot.
TARGET_IDS = np.array([[1, 2, 0, -1], [2, -1, 0, 0]], np.int32)


def test_smooth_l1():
    values = ops.convert_to_numpy(losses.smooth_l1_loss(np.zeros(5, np.float32), np.float32([-2, -0.5, 0, 1, 3])))
    np.testing.assert_allclose(values, [1.5, 0.125, 0, 0.5, 2.5])


def test_rpn_class_loss_is_the_mean_over_judged_anchors():
    logits = RNG.normal(size=(2, 5, 2))
    expected = [
        -log_softmax(logits[image, anchor])[int(MATCH[image, anchor, 0] == 1)]
        for image in range(2)
        for anchor in range(5)
        if MATCH[image, anchor, 0] != 0
    ]
    assert number(losses.rpn_class_loss_graph, MATCH, logits) == pytest.approx(np.mean(expected), rel=1e-5)


def test_rpn_bbox_loss_takes_target_rows_in_the_order_of_positive_anchors():
    deltas, targets = RNG.normal(size=(2, 5, 4)) * 2, RNG.normal(size=(2, 3, 4))
    pairs = [(targets[0, 0], deltas[0, 0]), (targets[0, 1], deltas[0, 3]), (targets[1, 0], deltas[1, 4])]
    expected = np.mean([smooth_l1(target - delta) for target, delta in pairs])
    assert number(losses.rpn_bbox_loss_graph, targets, MATCH, deltas) == pytest.approx(expected, rel=1e-5)


def test_rpn_bbox_loss_with_more_target_rows_than_anchors():
    deltas, targets = RNG.normal(size=(2, 5, 4)), RNG.normal(size=(2, 9, 4))
    few = number(losses.rpn_bbox_loss_graph, targets[:, :3], MATCH, deltas)
    assert number(losses.rpn_bbox_loss_graph, targets, MATCH, deltas) == pytest.approx(few)


@pytest.mark.parametrize("active", [np.array([1, 1, 0]), np.array([[1, 1, 0], [1, 1, 1]])])
def test_class_loss_leaves_out_inactive_classes_and_unused_slots(active):
    logits = RNG.normal(size=(2, 4, 3)) * 3
    logits[0, 0] = [0.0, 1.0, 5.0]  # is taken for class 2, which image 0 does not label
    counted = [
        -log_softmax(logits[image, roi])[TARGET_IDS[image, roi]]
        for image in range(2)
        for roi in range(4)
        if TARGET_IDS[image, roi] >= 0 and np.broadcast_to(active, (2, 3))[image, logits[image, roi].argmax()]
    ]
    loss = number(losses.mrcnn_class_loss_graph, TARGET_IDS, logits, active.astype(np.int32))
    assert 0 < len(counted) < 6
    assert loss == pytest.approx(np.mean(counted), rel=1e-5)


def test_bbox_loss_takes_the_deltas_of_the_own_class():
    targets, deltas = RNG.normal(size=(2, 4, 4)), RNG.normal(size=(2, 4, 3, 4)) * 2
    positive = [(0, 0), (0, 1), (1, 0)]
    expected = np.mean([smooth_l1(targets[i, r] - deltas[i, r, TARGET_IDS[i, r]]) for i, r in positive])
    assert number(losses.mrcnn_bbox_loss_graph, targets, TARGET_IDS, deltas) == pytest.approx(expected, rel=1e-5)


def test_mask_loss_takes_the_mask_of_the_own_class():
    targets = RNG.integers(0, 2, (2, 4, 3, 5)).astype(float)
    masks = RNG.uniform(0.01, 0.99, (2, 4, 3, 5, 3))
    expected = []
    for image, roi in ((0, 0), (0, 1), (1, 0)):
        own = masks[image, roi, :, :, TARGET_IDS[image, roi]]
        expected.append(-np.where(targets[image, roi] == 1, np.log(own), np.log(1 - own)).mean())
    assert number(losses.mrcnn_mask_loss_graph, targets, TARGET_IDS, masks) == pytest.approx(
        np.mean(expected), rel=1e-5
    )


def test_mask_loss_stays_finite_for_certain_answers():
    targets = np.array([[[[0.0, 1.0]]]])
    wrong = np.stack([np.zeros((1, 1, 1, 2)), 1 - targets], axis=-1)
    loss = number(losses.mrcnn_mask_loss_graph, targets, np.array([[1]], np.int32), wrong)
    assert 10 < loss < 20


@pytest.mark.parametrize("target", [0, -1])
def test_nothing_to_learn_from_is_zero_not_nan(target):
    nothing = np.full((1, 2), target, np.int32)
    assert number(losses.rpn_class_loss_graph, 0 * MATCH, RNG.normal(size=(2, 5, 2))) == 0
    assert number(losses.rpn_bbox_loss_graph, np.ones((2, 3, 4)), -np.abs(MATCH), np.zeros((2, 5, 4))) == 0
    assert number(losses.mrcnn_bbox_loss_graph, np.ones((1, 2, 4)), nothing, np.zeros((1, 2, 3, 4))) == 0
    assert number(losses.mrcnn_mask_loss_graph, np.ones((1, 2, 4, 4)), nothing, np.zeros((1, 2, 4, 4, 3))) == 0
    if target == -1:
        logits, active = np.ones((1, 2, 3)), np.ones(3, np.int32)
        assert number(losses.mrcnn_class_loss_graph, nothing, logits, active) == 0
