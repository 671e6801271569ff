"""Anchor matching by windows against a brute-force reference."""

import numpy as np
import pytest

from mrcnn.anchors import anchor_grid_shapes, pyramid_anchors
from mrcnn.config import Config
from mrcnn.rpn import targets as rpn_targets

SHAPE = (256, 192, 3)


class SmallConfig(Config):
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    RPN_TRAIN_ANCHORS_PER_IMAGE = 64


def loop_iou(anchors, boxes):
    """IoU [anchors, boxes], one box at a time, from the definition."""
    result = np.zeros((len(anchors), len(boxes)))
    for index, (y1, x1, y2, x2) in enumerate(boxes):
        height = np.clip(np.minimum(anchors[:, 2], y2) - np.maximum(anchors[:, 0], y1), 0, None)
        width = np.clip(np.minimum(anchors[:, 3], x2) - np.maximum(anchors[:, 1], x1), 0, None)
        areas = (anchors[:, 2] - anchors[:, 0]) * (anchors[:, 3] - anchors[:, 1])
        result[:, index] = height * width / (areas + (y2 - y1) * (x2 - x1) - height * width)
    return result


def brute_force_match(anchors, boxes):
    iou = loop_iou(anchors, boxes)
    match = np.zeros(len(anchors), dtype=np.int32)
    match[iou.max(axis=1) < 0.3] = -1
    match[(iou >= iou.max(axis=0) - 1e-9).any(axis=1)] = 1
    match[iou.max(axis=1) >= 0.7] = 1
    return match


def random_boxes(rng, count, largest):
    limit = np.minimum(largest, SHAPE[:2])
    sizes = np.exp(rng.uniform(0, np.log(limit), (count, 2))).astype(int)
    corners = rng.integers(0, np.array(SHAPE[:2]) - sizes, endpoint=True)
    return np.concatenate([corners, corners + sizes], axis=1)


def match(config, boxes, class_ids=None):
    class_ids = np.ones(len(boxes), dtype=np.int32) if class_ids is None else class_ids
    anchors = pyramid_anchors(config, SHAPE)
    return rpn_targets.match_anchors(anchors, anchor_grid_shapes(config, SHAPE), class_ids, boxes)


@pytest.mark.parametrize("largest", [3, 40, 256])
@pytest.mark.parametrize("anchor_stride", [1, 2])
def test_matching_equals_brute_force(largest, anchor_stride):
    config = SmallConfig()
    config.RPN_ANCHOR_STRIDE = anchor_stride
    rng = np.random.default_rng(largest)
    anchors = pyramid_anchors(config, SHAPE)
    for count in (1, 7, 40):
        boxes = random_boxes(rng, count, largest)
        np.testing.assert_array_equal(match(config, boxes), brute_force_match(anchors, boxes))


@pytest.mark.parametrize(
    "box",
    [(10, 10, 11, 11), (0, 0, 256, 192), (100, 0, 102, 192), (0, 5, 256, 6), (60, 60, 68, 68), (62, 62, 70, 70)],
    ids=["one pixel", "whole image", "flat", "thin", "on an anchor", "between four anchors"],
)
def test_every_box_gets_its_best_anchors(box):
    config = SmallConfig()
    boxes = np.array([box])
    found = match(config, boxes)
    np.testing.assert_array_equal(found, brute_force_match(pyramid_anchors(config, SHAPE), boxes))
    assert (found == 1).any()


def test_crowd_boxes_match_nothing_and_silence_their_surroundings():
    config = SmallConfig()
    boxes = np.array([(20, 20, 50, 50), (100, 100, 180, 180)])
    anchors = pyramid_anchors(config, SHAPE)
    iou = loop_iou(anchors, boxes)
    found = match(config, boxes, np.array([1, -1]))
    expected = brute_force_match(anchors, boxes[:1])
    expected[(expected == -1) & (iou[:, 1] >= 0.001)] = 0
    np.testing.assert_array_equal(found, expected)


def test_image_without_boxes_is_background():
    assert (match(SmallConfig(), np.zeros((0, 4))) == -1).all()


def test_bad_boxes_and_anchors_are_refused():
    config = SmallConfig()
    with pytest.raises(ValueError, match=r"positive height and width.*5\.0, 5\.0, 5\.0"):
        match(config, np.array([(0, 0, 8, 8), (5, 5, 5, 9)]))
    with pytest.raises(ValueError, match="anchor grids hold"):
        rpn_targets.build_rpn_targets((128, 128), pyramid_anchors(config, SHAPE), np.ones(0), np.zeros((0, 4)), config)


def build(config, boxes, seed=0):
    anchors = pyramid_anchors(config, SHAPE)
    ids = np.ones(len(boxes), dtype=np.int32)
    return rpn_targets.build_rpn_targets(SHAPE, anchors, ids, boxes, config, np.random.default_rng(seed))


def test_sample_is_balanced_and_repeatable():
    config = SmallConfig()
    boxes = random_boxes(np.random.default_rng(1), 60, 40)
    found, _ = build(config, boxes)
    assert (found == 1).sum() == 32 and (found == -1).sum() == 32
    full = match(config, boxes)
    assert (full[found == 1] == 1).all() and (full[found == -1] == -1).all()
    np.testing.assert_array_equal(found, build(config, boxes)[0])
    assert (found != build(config, boxes, seed=1)[0]).any()


def test_few_positives_are_filled_up_with_negatives():
    found, deltas = build(SmallConfig(), np.array([(60, 60, 68, 68)]))
    positives = (found == 1).sum()
    assert 1 <= positives < 32 and (found == -1).sum() == 64 - positives
    assert (deltas[positives:] == 0).all()


def test_deltas_lead_each_anchor_to_the_box_it_overlaps_most():
    config = SmallConfig()
    boxes = random_boxes(np.random.default_rng(2), 30, 60)
    found, deltas = build(config, boxes)
    anchors = pyramid_anchors(config, SHAPE)[found == 1]
    nearest = boxes[loop_iou(anchors, boxes).argmax(axis=1)]
    for anchor, box, delta in zip(anchors, nearest, deltas, strict=False):
        dy, dx, dh, dw = delta * config.RPN_BBOX_STD_DEV
        height, width = anchor[2:] - anchor[:2]
        center = (anchor[:2] + anchor[2:]) / 2 + (dy * height, dx * width)
        half = np.array([height * np.exp(dh), width * np.exp(dw)]) / 2
        np.testing.assert_allclose(np.concatenate([center - half, center + half]), box, atol=1e-3)
    assert deltas.dtype == np.float32 and deltas.shape == (64, 4)


@pytest.mark.parametrize("largest", [3, 40, 256])
def test_anchors_left_out_match_as_if_they_did_not_exist(largest):
    config = SmallConfig()
    anchors = pyramid_anchors(config, SHAPE)
    inside = (anchors[:, :2] >= 0).all(axis=1) & (anchors[:, 2:] <= SHAPE[:2]).all(axis=1)
    boxes = random_boxes(np.random.default_rng(largest), 12, largest)
    grids = anchor_grid_shapes(config, SHAPE)
    found = rpn_targets.match_anchors(anchors, grids, np.ones(12, np.int32), boxes, inside)
    np.testing.assert_array_equal(found[inside], brute_force_match(anchors[inside], boxes))
    assert not found[~inside].any()


def test_anchors_beyond_the_image_are_no_targets():
    config = SmallConfig()
    anchors = pyramid_anchors(config, SHAPE)
    beyond = (anchors[:, :2] < 0).any(axis=1) | (anchors[:, 2:] > SHAPE[:2]).any(axis=1)
    boxes = np.array([[0, 0, 20, 20], [100, 90, 140, 120]])
    for left_out in (False, True):
        config.RPN_INSIDE_ANCHORS = left_out
        labels, _ = rpn_targets.build_rpn_targets(SHAPE, anchors, [1, 1], boxes, config, np.random.default_rng(0))
        assert labels[beyond].any() != left_out and (labels == 1).any() and (labels == -1).any()
