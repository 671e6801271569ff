"""The commands with a real, tiny Mask R-CNN: train, be stopped, go on, evaluate, detect, refuse other weights."""

import csv

import numpy as np
import pandas as pd
import pytest

from nucleus import cli


@pytest.fixture
def dataset(tmp_path, tiny_presets, add_sample, rectangle):
    """A dataset of one image a subset."""
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
