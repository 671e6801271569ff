"""All scores at once: each is its own function's, and images add up."""

import numpy as np
import pytest

from nucleus.evaluation.scores import average_precision
from nucleus.evaluation.scores.glas import glas_scores
from nucleus.evaluation.scores.matching import THRESHOLDS, count_matches
from nucleus.evaluation.scores.numbers import count_divisions, count_nuclei
from nucleus.evaluation.scores.overlaps import overlaps
from nucleus.evaluation.scores.panoptic import panoptic_quality
from nucleus.evaluation.scores.pixels import count_pixels
from nucleus.evaluation.scores.summary import score, scores_by_group


def test_every_value_of_an_image_is_its_own_score(images):
    pair = overlaps(images.truth, images.predicted)
    found = count_matches(pair, 0.6)
    divisions, numbers, panoptic = count_divisions(pair, 0.6), count_nuclei(pair), panoptic_quality(pair)
    pixels, glas = count_pixels(pair), glas_scores(pair)
    values = score(pair, 0.6).values()
    curve = count_matches(pair).average_precision
    assert [values.pop(f"AP{round(100 * threshold)}") for threshold in THRESHOLDS] == list(curve)
    assert values == {
        "images": 1,
        "mAP": pytest.approx(average_precision(images.truth, images.predicted)),
        "precision": found.precision[0],
        "recall": found.recall[0],
        "F1": found.f1[0],
        "Dice": pixels.dice,
        "IoU": pixels.iou,
        "oseg": divisions.over,
        "useg": divisions.under,
        "true": len(images.truth_masks),
        "predicted": len(images.predicted_masks),
        "matched": (images.iou > 0.5).sum(),
        "missed": len(images.truth_masks) - (images.iou > 0.5).sum(),
        "spurious": len(images.predicted_masks) - (images.iou > 0.5).sum(),
        "count_error": numbers.error,
        "count_ratio": numbers.ratio,
        "PQ": panoptic.quality,
        "SQ": panoptic.segmentation_quality,
        "RQ": panoptic.recognition_quality,
        "object_F1": glas.f1,
        "object_Dice": glas.dice,
        "object_Hausdorff": glas.hausdorff,
    }


def test_map_is_a_mean_over_images_and_recall_one_over_nuclei(images, edge_cases):
    pairs = [overlaps(images.truth, images.predicted), *(overlaps(*case) for case in edge_cases.values())]
    total = sum(score(pair) for pair in pairs)
    values = total.values()
    assert values["images"] == 5
    assert values["mAP"] == pytest.approx(np.mean([count_matches(pair).average_precision.mean() for pair in pairs]))
    hits = (images.iou > 0.7).sum() + 2
    assert values["recall"] == pytest.approx(hits / (len(images.truth_masks) + 4))
    assert values["precision"] == pytest.approx(hits / (len(images.predicted_masks) + 4))
    assert values["true"] == len(images.truth_masks) + 4
    first = count_pixels(pairs[0])
    assert values["Dice"] == pytest.approx((first.dice + 1 + 0 + 0 + 1) / 5)
    assert values["IoU"] == pytest.approx((first.iou + 1 + 0 + 0 + 1) / 5)


def test_without_nuclei_all_is_perfect(edge_cases):
    values = score(overlaps(*edge_cases["neither"])).values()
    nothing = ("oseg", "useg", "true", "predicted", "matched", "missed", "spurious", "count_error")
    numbers = {name: values.pop(name) for name in nothing}
    assert set(numbers.values()) == {0}
    assert values.pop("object_Hausdorff") == 0
    assert set(values.values()) == {1}


def test_a_threshold_with_several_matches_is_refused(edge_cases):
    with pytest.raises(ValueError, match=r"0\.4"):
        score(overlaps(*edge_cases["same"]), 0.4)


def test_groups_add_up_to_all(images, edge_cases):
    scored = [score(overlaps(*case)) for case in ((images.truth, images.predicted), *edge_cases.values())]
    names = ["dark", "bright", "dark", "bright", "dark"]
    groups = scores_by_group(zip(names, scored, strict=True))
    assert list(groups) == ["all", "bright", "dark"]
    assert groups["all"].values() == pytest.approx(sum(scored).values())
    assert groups["bright"].values() == (scored[1] + scored[3]).values()
    assert groups["dark"].values()["images"] == 3
    assert list(scores_by_group([("dark", scored[0])])) == ["all"]
    with pytest.raises(ValueError, match="no image"):
        scores_by_group([])
    with pytest.raises(ValueError, match="A group is called 'all'"):
        scores_by_group([("all", scored[0]), ("dark", scored[1])])
