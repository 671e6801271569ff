"""Protects matching and average precision, against hand-made cases and COCO's implementation."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from skimage.draw import disk

from mrcnn import evaluation
from mrcnn.masks import extract_bboxes


def disks(shape, circles):
    stack = np.zeros((*shape, len(circles)), bool)
    for i, (y, x, radius) in enumerate(circles):
        stack[(*disk((y, x), radius, shape=shape), i)] = True
    return stack


def test_compute_overlaps_masks_equals_loop_and_coco():
    rng = np.random.default_rng(3)
    first = rng.random((50, 40, 5)) > 0.4
    second = rng.random((50, 40, 7)) > 0.7
    second[:, :, 2] = False
    expected = [[(a & b).sum() / (a | b).sum() for b in np.moveaxis(second, -1, 0)] for a in np.moveaxis(first, -1, 0)]
    coco = coco_mask.iou(*(coco_mask.encode(np.asfortranarray(stack, np.uint8)) for stack in (first, second)), [0] * 7)
    result = evaluation.compute_overlaps_masks(first, second.astype(np.float32))
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    np.testing.assert_allclose(result, coco, rtol=1e-6)


def test_compute_overlaps_masks_of_empty_masks():
    nothing = np.zeros((4, 4, 2), bool)
    np.testing.assert_array_equal(evaluation.compute_overlaps_masks(nothing, nothing), np.zeros((2, 2)))
    assert evaluation.compute_overlaps_masks(nothing, nothing[:, :, :0]).shape == (2, 0)
    with pytest.raises(ValueError, match="one height and width"):
        evaluation.compute_overlaps_masks(nothing, np.zeros((4, 5, 1), bool))


def instances(circles, shape=(100, 100)):
    stack = disks(shape, circles)
    return extract_bboxes(stack), np.ones(len(circles), np.int32), stack


def test_matches_go_to_the_best_score_first():
    truth = instances([(20, 20, 10), (60, 60, 10)])
    boxes, class_ids, stack = instances([(20, 21, 10), (20, 20, 10), (60, 60, 10), (80, 20, 5)])
    scores = np.array([0.6, 0.9, 0.8, 0.7])
    gt_match, pred_match, overlaps = evaluation.compute_matches(*truth, boxes, class_ids, scores, stack)
    # Predictions in the order of their scores: 1, 2, 3, 0.
    assert gt_match.tolist() == [0, 1]
    assert pred_match.tolist() == [0, 1, -1, -1]
    assert overlaps.shape == (4, 2) and overlaps[0, 0] == 1 and overlaps[3, 0] > 0.5


def test_matches_need_the_class_and_the_overlap():
    truth = instances([(20, 20, 10)])
    boxes, class_ids, stack = instances([(20, 20, 10)])
    _, wrong_class, _ = evaluation.compute_matches(*truth, boxes, class_ids + 1, np.ones(1), stack)
    assert wrong_class.tolist() == [-1]
    boxes, class_ids, stack = instances([(20, 28, 10)])
    overlap = evaluation.compute_overlaps_masks(truth[2], stack)[0, 0]
    for threshold, match in ((overlap - 0.01, 0), (overlap + 0.01, -1)):
        found = evaluation.compute_matches(*truth, boxes, class_ids, np.ones(1), stack, iou_threshold=threshold)
        assert found[1].tolist() == [match]
    found = evaluation.compute_matches(
        *truth, boxes, class_ids, np.ones(1), stack, iou_threshold=0.1, score_threshold=overlap + 0.01
    )
    assert found[1].tolist() == [-1]


def test_matches_ignore_padding():
    boxes, class_ids, stack = instances([(20, 20, 10)])
    padded = np.pad(boxes, [(0, 3), (0, 0)]), np.pad(class_ids, (0, 3)), np.pad(stack, [(0, 0), (0, 0), (0, 3)])
    gt_match, pred_match, overlaps = evaluation.compute_matches(
        *padded, padded[0], padded[1], np.array([0.9, 0, 0, 0]), padded[2]
    )
    assert gt_match.tolist() == pred_match.tolist() == [0]
    assert overlaps.shape == (1, 1)


def test_average_precision_by_hand():
    truth = instances([(20, 20, 10), (20, 60, 10), (60, 20, 10)])
    boxes, class_ids, stack = instances([(20, 20, 10), (80, 80, 6), (20, 60, 10)])
    value, precisions, recalls, _ = evaluation.compute_ap(*truth, boxes, class_ids, np.array([0.9, 0.8, 0.7]), stack)
    # Hit, miss, hit of three: recall 1/3 at precision 1, then 2/3 at precision 2/3.
    assert value == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)
    np.testing.assert_allclose(recalls, [0, 1 / 3, 1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(precisions, [1, 1, 2 / 3, 2 / 3, 0])


@pytest.mark.parametrize("threshold", [0.5, 0.75])
def test_average_precision_agrees_with_coco(threshold):
    """COCO samples the same curve at 101 recalls, so the two areas differ by at most a few steps of 0.01."""
    rng = np.random.default_rng(12)
    shape = (160, 160)
    truth_circles = [(y, x, rng.uniform(6, 9)) for y in range(12, 150, 24) for x in range(12, 150, 24)]
    pred_circles = [
        (y + rng.normal(0, 1.2), x + rng.normal(0, 1.2), r) for y, x, r in truth_circles if rng.random() < 0.9
    ]
    pred_circles += [(*rng.uniform(10, 150, 2), 5) for _ in range(8)]
    truth, prediction = instances(truth_circles, shape), instances(pred_circles, shape)
    scores = rng.random(len(pred_circles))

    def annotations(found, scores=None):
        for i in range(len(found[0])):
            rle = coco_mask.encode(np.asfortranarray(found[2][:, :, i], np.uint8))
            entry = {"id": i + 1, "image_id": 1, "category_id": 1, "segmentation": rle, "iscrowd": 0}
            entry |= {"area": float(coco_mask.area(rle)), "bbox": coco_mask.toBbox(rle).tolist()}
            yield entry if scores is None else entry | {"score": scores[i]}

    images = [{"id": 1, "height": shape[0], "width": shape[1]}]
    reference = COCO()
    reference.dataset = {"images": images, "categories": [{"id": 1}], "annotations": list(annotations(truth))}
    reference.createIndex()
    coco_eval = COCOeval(reference, reference.loadRes(list(annotations(prediction, scores))), "segm")
    coco_eval.params.iouThrs = np.array([threshold])
    coco_eval.evaluate()
    coco_eval.accumulate()
    expected = coco_eval.eval["precision"][0, :, 0, 0, -1].mean()

    value, *_ = evaluation.compute_ap(*truth, *prediction[:2], scores, prediction[2], iou_threshold=threshold)
    assert 0.2 < expected < 0.99
    assert value == pytest.approx(expected, abs=0.02)


def test_average_precision_without_instances(capfd):
    nothing = instances([])
    something = instances([(20, 20, 10)])
    assert evaluation.compute_ap(*nothing, *something[:2], np.ones(1), something[2])[0] == 0
    assert evaluation.compute_ap(*something, *nothing[:2], np.ones(0), nothing[2])[0] == 0
    assert capfd.readouterr().err == ""


def test_average_precision_range_is_the_mean(capsys):
    truth = instances([(20, 20, 10), (60, 60, 10)])
    boxes, class_ids, stack = instances([(20, 22, 10), (60, 60, 10)])
    arguments = (*truth, boxes, class_ids, np.array([0.9, 0.8]), stack)
    expected = [evaluation.compute_ap(*arguments, iou_threshold=t)[0] for t in np.arange(0.5, 1.0, 0.05)]
    assert len(set(expected)) > 1
    assert evaluation.compute_ap_range(*arguments, verbose=0) == pytest.approx(np.mean(expected))
    assert capsys.readouterr().out == ""
    evaluation.compute_ap_range(*arguments, iou_thresholds=np.array([0.5, 0.75]))
    assert "AP @0.50-0.75" in capsys.readouterr().out


def test_recall_counts_each_truth_once():
    truth = np.array([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]])
    predictions = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [21, 20, 31, 30], [70, 70, 80, 80]])
    recall, positive = evaluation.compute_recall(predictions, truth, 0.5)
    assert recall == pytest.approx(2 / 3)
    assert positive.tolist() == [0, 1, 2]
    assert evaluation.compute_recall(predictions[:0], truth, 0.5)[0] == 0
    assert evaluation.compute_recall(predictions, truth[:0], 0.5)[0] == 1


def test_trim_zeros():
    rows = np.array([[1, 0], [0, 0], [0, -2], [0, 0]])
    assert evaluation.trim_zeros(rows).tolist() == [[1, 0], [0, -2]]
    with pytest.raises(ValueError, match="two dimensions"):
        evaluation.trim_zeros(rows[0])
