"""The commands with a real, tiny U-Net on the shipped images: train, be stopped, go on, evaluate, detect, bad input."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from nucleus import cli, load_model, read_image
from nucleus.datasets.dataset import NucleusDataset
from nucleus.images.reading import read_labels
from nucleus.models.registry import make_config
from trainkit.presets import Preset
from unet.model import UNet
from unet.presets import PRESETS

SHIPPED = Path(__file__).parents[2] / "samples" / "nucleus" / "data"
TINY = {
    "ENCODER": "plain",
    "ENCODER_FILTERS": (4, 6, 8),
    "DECODER": "inception-se",
    "DECODER_FILTERS": (8, 8),
    "IMAGE_SIZE": 64,
    "BATCH_SIZE": 2,
    "STEPS_PER_EPOCH": 2,
    "VALIDATION_STEPS": 1,
    "EVALUATE_EVERY": 1,
    "BALANCE_MODALITIES": True,
    "STAGES": (("decoder", 1, 0.01), ("all", 1, 0.01)),
}


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """Two shipped images of different modalities and sizes, one to train on, one to validate on."""
    root = tmp_path_factory.mktemp("shipped")
    classes = pd.read_csv(SHIPPED / "classes.csv")
    chosen = classes.groupby(["foreground", "background"]).head(1)["ImageId"].tolist()
    for subset, name in zip(("one", "other"), chosen, strict=False):
        (root / subset).mkdir()
        (root / subset / name).symlink_to(SHIPPED / "stage1_train" / name)
    (root / "classes.csv").write_text((SHIPPED / "classes.csv").read_text())
    return root


@pytest.fixture(autouse=True)
def tiny_preset(monkeypatch):
    monkeypatch.setitem(PRESETS, "tiny", Preset("two levels", "this test", TINY))


def run(dataset, command, *arguments, logs=None):
    images = () if command == "pack" else ("--dataset", dataset)
    common = (*images, "--logs", logs or dataset / "logs")
    return cli.main([str(argument) for argument in (command, *common, *arguments)])


@pytest.fixture
def trained(shipped, tmp_path, eager):
    """A run of two epochs, stopped after the first and taken up again."""
    train = ("train", "--model=unet", "--subset=one", "--val-subset=other")
    logs = tmp_path / "logs"
    assert run(shipped, *train, "--weights=none", "--preset=tiny", "--set", "CLAHE=True", "--epochs=1", logs=logs) == 0
    (log_dir,) = logs.iterdir()
    assert run(shipped, *train, "--weights=last", logs=logs) == 0
    assert [path.name for path in logs.iterdir()] == [log_dir.name], "the run was taken up"
    return log_dir


def test_from_training_to_results(shipped, trained, tmp_path, capsys):
    recipe = json.loads((trained / "recipe.json").read_text())
    assert (recipe["model"], recipe["preset"]) == ("unet", "tiny")
    assert [stage[0] for stage in recipe["settings"]["STAGES"]] == ["all", "all"], "random weights are not frozen"
    with open(trained / "training.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(np.isfinite(float(row["loss"])) and 0 <= float(row["val_mAP"]) <= 1 for row in rows)
    assert sorted(path.name for path in trained.glob("*.h5")) == [
        "unet_nucleus_0001.h5",
        "unet_nucleus_0002.h5",
        "unet_nucleus_best.h5",
    ]

    best, output = trained / "unet_nucleus_best.h5", tmp_path / "out"
    assert run(shipped, "evaluate", "--subset=other", "--weights", best, "--output", output) == 0
    scores = pd.read_csv(output / "scores.csv")
    (name,) = (path.name for path in (shipped / "other").iterdir())
    assert scores["ImageId"].tolist() == [name] and scores["true"].item() > 5
    assert run(shipped, "detect", "--subset=other", "--weights", best, "--output", output) == 0
    labels = read_labels(output / "labels" / f"{name}.png")
    found = pd.read_csv(output / "nuclei.csv")
    assert labels.max() == len(found) == scores["predicted"].item()
    assert {path.name for path in output.iterdir()} >= {"labels", "overlays", "nuclei.csv", "submission.csv"}
    assert found["score"].between(0, 1).all()

    # The library gives what the command wrote.
    image = read_image(next((shipped / "other" / name / "images").iterdir()))
    ((again, scores),) = load_model(best).predict(image)
    np.testing.assert_array_equal(again, labels)
    np.testing.assert_allclose(scores, found["score"], atol=1e-3)

    capsys.readouterr()
    packed = tmp_path / "nucleus_tiny.h5"
    assert run(shipped, "pack", "--weights", best, "--output", packed) == 0
    assert run(shipped, "detect", "--subset=other", "--weights", packed, "--output", tmp_path / "packed") == 0
    assert abs(len(pd.read_csv(tmp_path / "packed" / "nuclei.csv")) - len(found)) <= 0.1 * len(found) + 1


@pytest.mark.parametrize(
    ("setting", "causes"),
    [
        ("DECODER_FILTERS=(8,16)", ("unet_nucleus_0002.h5", "decoder")),
        ("IMAGE_CHANNEL_COUNT=1", ("unet_nucleus_0002.h5", "(3, 3, 3, 4)", "(3, 3, 1, 4)")),
        ("TARGETS=mask-border", ("unet_nucleus_0002.h5", "3", "2")),
        ("POSTPROCESS=guess", ("POSTPROCESS", "guess", "watershed")),
        ("OVERLAP_RULE=score", ("OVERLAP_RULE",)),
    ],
)
def test_what_does_not_fit_the_weights_is_named(shipped, finished, tmp_path, capsys, setting, causes):
    arguments = ("detect", "--subset=other", "--weights", finished, "--output", tmp_path / "none", "--set", setting)
    assert run(shipped, *arguments) == 1
    message = capsys.readouterr().err
    assert "nucleus: error:" in message and all(cause in message for cause in causes), message
    assert not (tmp_path / "none").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A weights file of the tiny network as a training leaves it, with its recipe."""

    from nucleus.models.weights import Recipe

    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", Preset("two levels", "this test", TINY))
        UNet(make_config("inference", "tiny", model="unet")).save_weights(folder / "unet_nucleus_0002.h5")
    Recipe("tiny", model="unet").save(folder)
    return folder / "unet_nucleus_0002.h5"


def test_tuning_reports_its_trials_and_packing_keeps_the_chosen_settings(shipped, finished, tmp_path, capsys):
    output = tmp_path / "tuned"
    tries = ("--try", "MASK_THRESHOLD=0.4,0.5,0.6", "--try", "POSTPROCESS=components,watershed", "--search=grid")
    arguments = ("--subset=other", "--weights", finished, "--output", output, "--set", "MIN_AREA=3")
    assert run(shipped, "tune", *arguments, *tries) == 0
    printed = capsys.readouterr().out
    table = pd.read_csv(output / "tuning.csv")
    assert list(table) == ["MASK_THRESHOLD", "POSTPROCESS", "score"] and len(table) == 6
    assert table["score"].is_monotonic_decreasing and table["score"].between(0, 1).all()
    best = [f"{name}={table[name][0]}" for name in ("MASK_THRESHOLD", "POSTPROCESS")]
    assert printed.splitlines()[-1] == f"Best: --set {best[0]} --set {best[1]}"

    packed, scores = tmp_path / "nucleus_tuned.h5", tmp_path / "scores"
    chosen = [part for setting in (*best, "MIN_AREA=3") for part in ("--set", setting)]
    assert run(shipped, "pack", "--weights", finished, "--output", packed, "--full-precision", *chosen) == 0
    assert run(shipped, "evaluate", "--subset=other", "--weights", packed, "--output", scores) == 0
    assert pd.read_csv(scores / "scores.csv")["mAP"].item() == pytest.approx(table["score"][0], abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (("--try", "MASK_THRESHOLD=0.4,,0.6"), "MASK_THRESHOLD needs values separated by commas"),
        (("--try", "BATCH_SIZE=2"), "Settings to tune are"),
        (("--try", "MASK_THRESHOLD=high"), "MASK_THRESHOLD"),
        (("--try", "POSTPROCESS=guess"), "guess"),
        (("--subset=nowhere",), "nowhere"),
    ],
)
def test_what_cannot_be_tuned_is_named(shipped, finished, tmp_path, capsys, arguments, cause):
    subset = () if arguments[0].startswith("--subset") else ("--subset=other",)
    common = ("tune", *subset, "--weights", finished, "--output", tmp_path / "none")
    assert run(shipped, *common, *arguments) == 1
    assert cause in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_mask_rcnn_has_no_thresholds_to_tune(shipped, tmp_path, capsys):
    weights = Path(__file__).parents[2] / "weights" / "nucleus_mask_rcnn.h5"
    assert run(shipped, "tune", "--subset=other", "--weights", weights, "--output", tmp_path / "none") == 1
    assert "mask_rcnn has no thresholds to tune" in capsys.readouterr().err


def test_images_smaller_than_the_stride_and_of_one_pixel_are_segmented(shipped, finished, tmp_path, capsys):
    for name, shape in (("one", (1, 1, 3)), ("line", (1, 50, 3)), ("small", (3, 2, 3)), ("gray", (5, 9))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    output = tmp_path / "out"
    assert run(shipped, "detect", tmp_path, "--weights", finished, "--output", output) == 0
    assert capsys.readouterr().out.startswith("4 images")
    assert read_labels(output / "labels" / "line.png").shape == (1, 50)


def test_training_on_one_pixel_nuclei_and_on_none(add_sample, rectangle, tmp_path, eager):
    add_sample("dots", [rectangle(y, x, y + 1, x + 1) for y, x in ((0, 0), (5, 5), (5, 6), (11, 15))])
    add_sample("none", [np.zeros((12, 16), bool)])
    arguments = ("--weights=none", "--preset=tiny", "--val-subset=stage1_train", "--epochs=1")
    assert run(tmp_path, "train", *arguments, "--set", "BALANCE_MODALITIES=False", "--set", "AUGMENTATION=strong") == 0
    (log,) = tmp_path.glob("logs/*/training.csv")
    row = pd.read_csv(log).iloc[0]
    assert np.isfinite(row["loss"]) and 0 <= row["val_mAP"] <= 1
    dataset = NucleusDataset()
    dataset.load_nucleus(tmp_path, "stage1_train")
    dataset.prepare()
    assert sorted(dataset.load_labels(index)[0].max() for index in dataset.image_ids) == [0, 4]
