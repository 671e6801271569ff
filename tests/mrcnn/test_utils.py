"""Protects the lineage's names and the helpers that `mrcnn.utils` itself defines."""

import numpy as np
import pytest
from keras import ops

from mrcnn import utils


def random_boxes(rng, count, limit=100):
    corners = np.sort(rng.integers(0, limit, (count, 2, 2)), axis=1)
    corners[:, 1] += 1
    return corners.reshape(count, 4).astype(np.int32)


def loop_iou(box1, box2):
    height = max(0, min(box1[2], box2[2]) - max(box1[0], box2[0]))
    width = max(0, min(box1[3], box2[3]) - max(box1[1], box2[1]))
    total = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (box1, box2))
    return height * width / (total - height * width)


def test_overlaps_of_boxes_equal_loop():
    rng = np.random.default_rng(4)
    first, second = random_boxes(rng, 20), random_boxes(rng, 30)
    expected = np.array([[loop_iou(a, b) for b in second] for a in first])
    result = utils.compute_overlaps(first, second)
    assert result.dtype == np.float64
    np.testing.assert_allclose(result, expected)
    areas = np.prod(second[:, 2:] - second[:, :2], axis=1)
    one = utils.compute_iou(first[0], second, np.prod(first[0, 2:] - first[0, :2]), areas)
    np.testing.assert_allclose(one, expected[0])


def test_iou_of_boxes_without_area_is_zero():
    assert utils.compute_iou(np.zeros(4), np.zeros((1, 4)), 0.0, np.zeros(1)) == 0


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7])
def test_non_max_suppression_equals_loop(threshold):
    rng = np.random.default_rng(5)
    boxes, scores = random_boxes(rng, 60, limit=40), rng.random(60)
    kept = []
    for i in np.argsort(scores)[::-1]:
        if all(loop_iou(boxes[i], boxes[j]) <= threshold for j in kept):
            kept.append(i)
    result = utils.non_max_suppression(boxes, scores, threshold)
    assert result.dtype == np.int32
    assert result.tolist() == kept
    assert utils.non_max_suppression(boxes[:0], scores[:0], threshold).shape == (0,)


def test_box_refinement_and_its_application_are_inverse():
    rng = np.random.default_rng(6)
    boxes, targets = random_boxes(rng, 20), random_boxes(rng, 20)
    deltas = utils.box_refinement(boxes, targets)
    assert deltas.dtype == np.float32
    np.testing.assert_allclose(utils.apply_box_deltas(boxes, deltas), targets, atol=1e-3)
    # By hand: a 10 x 20 box moved by half its height and twice as wide about its centre.
    hand = utils.box_refinement(np.array([[0, 0, 10, 20]]), np.array([[5, -10, 15, 30]]))
    np.testing.assert_allclose(hand, [[0.5, 0, 0, np.log(2)]], atol=1e-6)


@pytest.mark.backend
def test_box_refinement_graph_equals_numpy():
    rng = np.random.default_rng(7)
    boxes, targets = random_boxes(rng, 8), random_boxes(rng, 8)
    result = utils.box_refinement_graph(ops.convert_to_tensor(boxes), ops.convert_to_tensor(targets))
    np.testing.assert_allclose(ops.convert_to_numpy(result), utils.box_refinement(boxes, targets), atol=1e-5)


def test_norm_boxes_round_trip():
    boxes = np.array([[0, 0, 100, 200], [10, 20, 31, 47]])
    normalized = utils.norm_boxes(boxes, (100, 200))
    np.testing.assert_allclose(normalized[0], [0, 0, 1, 1])
    np.testing.assert_array_equal(utils.denorm_boxes(normalized, (100, 200)), boxes)


@pytest.mark.backend
def test_batch_slice_stacks_each_result():
    first, second = ops.arange(6.0), ops.arange(6.0) + 10
    first, second = ops.reshape(first, (3, 2)), ops.reshape(second, (3, 2))
    total = utils.batch_slice([first, second], lambda a, b: a + b, 3)
    np.testing.assert_array_equal(ops.convert_to_numpy(total), ops.convert_to_numpy(first + second))
    pair = utils.batch_slice(first, lambda a: (a, ops.sum(a)), 2, names=["a", "b"])
    assert [tuple(part.shape) for part in pair] == [(2, 2), (2,)]
    np.testing.assert_array_equal(ops.convert_to_numpy(pair[1]), [1, 5])


def test_download_asks_for_the_published_file(monkeypatch, tmp_path, capsys):
    calls = []
    monkeypatch.setattr(utils, "download", lambda url, path, **_: calls.append((url, path)))
    utils.download_trained_weights(tmp_path / "coco.h5", verbose=0)
    assert capsys.readouterr().out == ""
    utils.download_trained_weights(tmp_path / "coco.h5")
    assert calls == [(utils.COCO_MODEL_URL, tmp_path / "coco.h5")] * 2
    assert "coco.h5" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [
        "extract_bboxes",
        "compute_iou",
        "compute_overlaps",
        "compute_overlaps_masks",
        "non_max_suppression",
        "apply_box_deltas",
        "box_refinement_graph",
        "box_refinement",
        "Dataset",
        "resize_image",
        "resize_mask",
        "minimize_mask",
        "expand_mask",
        "unmold_mask",
        "generate_anchors",
        "generate_pyramid_anchors",
        "trim_zeros",
        "compute_matches",
        "compute_ap",
        "compute_ap_range",
        "compute_recall",
        "batch_slice",
        "download_trained_weights",
        "norm_boxes",
        "denorm_boxes",
        "resize",
        "COCO_MODEL_URL",
    ],
)
def test_the_lineages_names_are_there(name):
    assert name in utils.__all__
    assert hasattr(utils, name)
