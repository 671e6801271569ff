"""The commands with a real, tiny Mask R-CNN: train, be stopped, go on, evaluate, detect, refuse other weights."""

import csv

import keras
import numpy as np
import pandas as pd
import pytest

from nucleus import cli
from nucleus.models.presets import PRESETS, Preset


def tiny_backbone(image, stage5, train_bn):
    """Four strided convolutions with the lineage's names, which `layers` matches."""
    features = [keras.layers.Conv2D(8, 3, strides=4, padding="same", activation="relu", name="conv1")(image)]
    for stage in (2, 3, 4, 5):
        convolve = keras.layers.Conv2D(
            8, 3, strides=1 if stage == 2 else 2, padding="same", activation="relu", name=f"res{stage}a_branch2a"
        )
        features.append(convolve(features[-1]))
    return features


TINY = {
    "BACKBONE": tiny_backbone,
    "COMPUTE_BACKBONE_SHAPE": lambda shape: [[shape[0] // s, shape[1] // s] for s in (4, 8, 16, 32, 64)],
    "TOP_DOWN_PYRAMID_SIZE": 8,
    "RPN_CHANNELS": 8,
    "MASK_CHANNELS": 8,
    "FPN_CLASSIF_FC_LAYERS_SIZE": 8,
    "IMAGE_MIN_DIM": 64,
    "IMAGE_MAX_DIM": 64,
    "IMAGE_MIN_SCALE": 1.0,
    "IMAGES_PER_GPU": 1,
    "STEPS_PER_EPOCH": 1,
    "VALIDATION_STEPS": 1,
    "POST_NMS_ROIS_TRAINING": 32,
    "POST_NMS_ROIS_INFERENCE": 32,
    "TRAIN_ROIS_PER_IMAGE": 8,
    "DETECTION_MAX_INSTANCES": 8,
    "EVALUATE_EVERY": 1,
    "STAGES": (("heads", 1), ("4+", 1)),
}


@pytest.fixture
def dataset(tmp_path, monkeypatch, add_sample, rectangle):
    """The preset "tiny", and a dataset of one image a subset."""
    monkeypatch.setitem(PRESETS, "tiny", Preset("four convolutions", "this test", training=TINY))
    masks = [rectangle(4, 4, 20, 20, shape=(64, 64)), rectangle(30, 8, 50, 40, shape=(64, 64))]
    add_sample("a", masks, shape=(64, 64))
    add_sample("b", masks, shape=(64, 64), folder="other")
    return tmp_path


def run(dataset, command, *arguments):
    common = ("--dataset", dataset, "--logs", dataset / "logs")
    return cli.main([str(argument) for argument in (command, *common, *arguments)])


def test_from_training_to_results(dataset, eager, capsys):
    train = ("train", "--val-subset=other")
    assert run(dataset, *train, "--weights=none", "--preset=tiny", "--set", "CLAHE=True", "--epochs=1") == 0
    (log_dir,) = (dataset / "logs").iterdir()
    assert run(dataset, *train, "--weights=last") == 0

    assert [path.name for path in (dataset / "logs").iterdir()] == [log_dir.name], "the run was taken up"
    with open(log_dir / "training.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(np.isfinite(float(row["loss"])) and 0 <= float(row["val_mAP"]) <= 1 for row in rows)
    assert sorted(path.name for path in log_dir.glob("*.h5")) == [
        "mask_rcnn_nucleus_0001.h5",
        "mask_rcnn_nucleus_0002.h5",
        "mask_rcnn_nucleus_best.h5",
    ]

    best = log_dir / "mask_rcnn_nucleus_best.h5"
    output = dataset / "out"
    assert run(dataset, "evaluate", "--subset=other", "--weights", best, "--output", output) == 0
    assert pd.read_csv(output / "scores.csv")["true"].tolist() == [2]
    assert run(dataset, "detect", "--subset=other", "--weights=last", "--output", output) == 0
    found = pd.read_csv(output / "nuclei.csv")
    assert len(pd.read_csv(output / "submission.csv")) == max(len(found), 1)
    assert found["score"].between(0, 1).all()

    capsys.readouterr()
    other = ("--set", "TOP_DOWN_PYRAMID_SIZE=16")
    assert run(dataset, "detect", "--subset=other", "--weights", best, "--output", dataset / "none", *other) == 1
    message = capsys.readouterr().err
    assert "nucleus: error:" in message and best.name in message and "fpn_" in message
    assert not (dataset / "none").exists()

    broken = dataset / "broken.h5"
    broken.write_bytes(best.read_bytes()[:1000])
    assert run(dataset, "evaluate", "--preset=tiny", "--subset=other", "--weights", broken) == 1
    assert "broken.h5" in capsys.readouterr().err
