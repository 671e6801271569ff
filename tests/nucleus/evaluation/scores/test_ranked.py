"""COCO's average precision against pycocotools on encoded masks, the lineage's against `mrcnn.utils.compute_ap`."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mrcnn.utils import compute_ap, extract_bboxes
from nucleus.evaluation.scores.overlaps import overlaps
from nucleus.evaluation.scores.ranked import CocoScores, coco_scores, score_average_precision


def encoded(masks, image, scores=None):
    for index, mask in enumerate(masks):
        code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        entry = {"image_id": image, "category_id": 1, "iscrowd": 0, "segmentation": code, "area": float(mask.sum())}
        yield entry | ({} if scores is None else {"score": float(scores[index])})


def stock_coco(truth_masks, predicted_masks, scores):
    """The scores that pycocotools itself prints for masks, with its limit of 100 detections."""
    shape = truth_masks[0][0].shape
    images = [{"id": k, "height": shape[0], "width": shape[1]} for k in range(len(truth_masks))]
    truth = [entry for k, masks in enumerate(truth_masks) for entry in encoded(masks, k)]
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": images,
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": [entry | {"id": k + 1} for k, entry in enumerate(truth)],
    }
    coco.createIndex()
    found = [entry for k, masks in enumerate(predicted_masks) for entry in encoded(masks, k, scores[k])]
    evaluation = COCOeval(coco, coco.loadRes(found), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return [evaluation.stats[index] for index in (0, 1, 2, 8)]


def test_agrees_with_pycocotools_on_masks(images):
    rng = np.random.default_rng(0)
    # A second image, in which some predictions are perfect.
    second = np.where(images.truth > np.median(images.truth), images.truth, images.predicted)
    pairs = [overlaps(images.truth, images.predicted), overlaps(images.truth, second)]
    # Rounded, so that some predictions rank equally.
    scores = [rng.uniform(size=len(pair.predicted_ids)).round(1) for pair in pairs]
    masks = [images.predicted_masks, [second == label for label in pairs[1].predicted_ids]]
    expected = stock_coco([images.truth_masks] * 2, masks, scores)
    found = coco_scores(zip(pairs, scores, strict=True))
    np.testing.assert_allclose([found.ap, found.ap50, found.ap75, found.ar], expected, atol=1e-12)
    assert 0 < found.ap < 1


def test_the_limit_keeps_the_best_predictions_of_each_image(images):
    pair = overlaps(images.truth, images.truth)
    scores = np.linspace(0.1, 0.9, len(pair.truth_ids))
    count = len(scores)
    assert coco_scores([(pair, scores)]).ar == 1
    assert coco_scores([(pair, scores)] * 2, max_detections=3).ar == pytest.approx(3 / count)


def test_pycocotools_prints_nothing(images, capsys):
    pair = overlaps(images.truth, images.predicted)
    coco_scores([(pair, np.ones(len(pair.predicted_ids)))])
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.75])
def test_agrees_with_the_lineage(images, threshold):
    pair = overlaps(images.truth, images.predicted)
    scores = np.random.default_rng(1).uniform(size=len(pair.predicted_ids)).round(1)
    truth, predicted = np.stack(images.truth_masks, axis=-1), np.stack(images.predicted_masks, axis=-1)
    ones = (np.ones(truth.shape[-1], int), np.ones(predicted.shape[-1], int))
    expected, *_ = compute_ap(
        extract_bboxes(truth), ones[0], truth, extract_bboxes(predicted), ones[1], scores, predicted, threshold
    )
    assert score_average_precision(pair, scores, threshold) == pytest.approx(expected)


@pytest.mark.parametrize(("case", "value"), [("neither", 1), ("no truth", 0), ("no prediction", 0), ("same", 1)])
def test_edge_cases(edge_cases, case, value):
    pair = overlaps(*edge_cases[case])
    scores = np.full(len(pair.predicted_ids), 0.5)
    assert coco_scores([(pair, scores)]) == CocoScores(value, value, value, value)
    assert score_average_precision(pair, scores) == value


def test_an_image_without_nuclei_costs_nothing_beside_others(edge_cases):
    pairs = [overlaps(*edge_cases[case]) for case in ("same", "neither", "no prediction")]
    scores = [np.full(len(pair.predicted_ids), 0.5) for pair in pairs]
    found = coco_scores(zip(pairs, scores, strict=True))
    assert found.ar == 0.5
    assert found == coco_scores([(pairs[0], scores[0]), (pairs[2], scores[2])])


def test_scores_that_do_not_fit_are_refused(edge_cases):
    pair = overlaps(*edge_cases["same"])
    with pytest.raises(ValueError, match=r"2 predictions, scores of shape \(3,\)"):
        coco_scores([(pair, np.ones(3))])
    with pytest.raises(ValueError, match="no image"):
        coco_scores([])
    with pytest.raises(ValueError, match="needs a score"):
        score_average_precision(pair, np.ones(1))
    with pytest.raises(ValueError, match="threshold"):
        score_average_precision(pair, np.ones(2), 0.0)
