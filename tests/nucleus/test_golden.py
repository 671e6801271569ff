"""The answers of the shipped models on shipped images, so that no change elsewhere changes them unnoticed.

`golden/<model>/<image>.png` are label images, `golden/<model>.csv` the scores of their labels, both as `nucleus detect`
wrote them with TensorFlow in float32. Processors round differently, hence the tolerances.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from skimage.io import imread

from nucleus import cli

GOLDEN = Path(__file__).parent / "golden"
DATA = Path(__file__).parents[2] / "samples" / "nucleus" / "data"
THRESHOLDS = np.arange(0.5, 1, 0.05)
# Weights of each folder in GOLDEN.
WEIGHTS = {"mask_rcnn": "nucleus_mask_rcnn", "unet": "nucleus_unet", "light": "nucleus_light", "fusion": "shipped"}
# Mean average precision of the default model on the six shipped images that it was not trained on: 0.543 when it was
# fitted.
LEAST_MAP = 0.52


def overlaps(first, second):
    """IoU of every label of one image with every label of another, without the project's own code."""
    joint = np.zeros((first.max() + 1, second.max() + 1))
    np.add.at(joint, (first.ravel(), second.ravel()), 1)
    union = joint.sum(1, keepdims=True) + joint.sum(0, keepdims=True) - joint
    return joint[1:, 1:] / union[1:, 1:]


def mean_average_precision(first, second):
    """Mean over IoU thresholds of TP / (TP + FP + FN), as the 2018 Data Science Bowl defines it."""
    iou = overlaps(first, second)
    found = [(iou > threshold).sum() for threshold in THRESHOLDS]
    return float(np.mean([hits / (sum(iou.shape) - hits) for hits in found]))


@pytest.fixture(scope="module", params=list(WEIGHTS))
def model(request):
    return request.param


@pytest.fixture(scope="module")
def detected(model, tmp_path_factory):
    """The folder that `nucleus detect` writes with a shipped model for the images that golden labels exist of."""
    output = tmp_path_factory.mktemp(model)
    names = [path.stem for path in sorted((GOLDEN / model).glob("*.png"))]
    images = [str(DATA / "stage1_train" / name / "images" / f"{name}.png") for name in names]
    assert len(images) == 4
    assert cli.main(["detect", *images, f"--weights={WEIGHTS[model]}", f"--output={output}"]) == 0
    return output


def test_label_images_stay_as_they_were(model, detected):
    for path in sorted((GOLDEN / model).glob("*.png")):
        then, now = imread(path), imread(detected / "labels" / path.name)
        assert mean_average_precision(then, now) > 0.95, path.name


def test_scores_stay_as_they_were(model, detected):
    then = pd.read_csv(GOLDEN / f"{model}.csv")
    now = pd.read_csv(detected / "nuclei.csv")
    for name, rows in then.groupby("ImageId"):
        iou = overlaps(imread(GOLDEN / model / f"{name}.png"), imread(detected / "labels" / f"{name}.png"))
        old, new = np.nonzero(iou > 0.7)
        scores = now[now["ImageId"] == name]
        assert len(scores) == iou.shape[1]
        difference = rows["score"].to_numpy()[old] - scores["score"].to_numpy()[new]
        assert len(difference) > 0.9 * len(rows)
        assert np.abs(difference).mean() < 0.01 and np.abs(difference).max() < 0.2, name


def test_the_default_model_finds_what_it_is_known_to_find(tmp_path):
    arguments = [f"--dataset={DATA}", "--subset=val", f"--output={tmp_path}"]
    assert cli.main(["evaluate", *arguments]) == 0
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert len(scores) == 6
    assert scores["mAP"].mean() > LEAST_MAP
