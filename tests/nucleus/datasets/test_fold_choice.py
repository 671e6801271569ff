"""Commands with trained weights take the images that these were not trained on, and say which."""

from contextlib import nullcontext
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from nucleus import cli
from nucleus.datasets.dataset import shipped_data
from nucleus.datasets.division import choose_folds
from nucleus.datasets.folds import Folds, find_folds, read_folds
from nucleus.datasets.source import ImageSource
from nucleus.models.recipe import Recipe


@pytest.fixture
def commands(tmp_path, monkeypatch, add_sample, rectangle):
    """Returns a function that runs a command without a network and returns the ids of the images that it took."""
    for name in "abcdefgh":
        add_sample(name, [rectangle(1, 1, 5, 5)], folder="stage1_test" if name in "gh" else "stage1_train")
    run = tmp_path / "logs" / "nucleus20240101T0000"
    run.mkdir(parents=True)
    (run / "mask_rcnn_nucleus_0001.h5").touch()
    (run / "mask_rcnn_nucleus_best.h5").touch()
    (run / "unet_nucleus_0001.h5").touch()
    Recipe("small").save(run)
    taken = []

    def note(model, dataset, *_, **__):
        taken.append("".join(sorted(info["id"] for info in dataset.image_info)))
        return SimpleNamespace(failures=[], rows=[], trials=[], best={}, table=lambda limit: "")

    def tune(dataset, grid, search):
        return note(None, dataset)

    def score(predictions, dataset, threshold):
        note(None, dataset)
        return SimpleNamespace(name=predictions.name, glas_parts=None, save=lambda folder: None)

    monkeypatch.setattr("nucleus.models.loading.ChosenModel.load", lambda *_: SimpleNamespace(tune=tune))
    monkeypatch.setattr("nucleus.prediction.detection.detect", note)
    monkeypatch.setattr("nucleus.evaluation.saving.evaluate_fully", score)
    monkeypatch.setattr("nucleus.evaluation.report.tables.console_table", str)

    def start(command, *arguments, weights="last"):
        kind, preset = ("unet", "plain-bn") if command == "tune" else ("mask_rcnn", "small")
        Recipe(preset, model=kind).save(run)
        common = [command, f"--dataset={tmp_path}", f"--logs={tmp_path / 'logs'}", f"--output={tmp_path / 'out'}"]
        if command == "tune":
            arguments = ("--model=unet", *arguments)
        status = cli.main([*common, f"--weights={weights}", *map(str, arguments)])
        return taken.pop() if status == 0 else None

    start.run, start.taken = run, taken
    return start


@pytest.fixture
def held_out(commands):
    """The run held out the second of four folds of stage1_train."""
    folds = Folds((("a", "e"), ("b", "f"), ("c",), ("d",)), held_out=2)
    folds.save(commands.run / "folds.json")
    return commands


@pytest.fixture(autouse=True)
def small_pool(monkeypatch):
    """Makes e and f the validation images of stage1_train."""
    monkeypatch.setattr("nucleus.datasets.layouts.dsb2018.VAL_IMAGE_IDS", ("e", "f"))


def test_evaluate_takes_what_the_run_held_out(held_out, capsys):
    assert held_out("evaluate") == "bf"
    assert "2 images (fold 2 of 4) held out of the training of" in capsys.readouterr().out
    assert held_out("evaluate", weights=held_out.run / "mask_rcnn_nucleus_best.h5") == "bf"
    assert held_out("evaluate", "--fold=2") == "bf"


def test_tune_leaves_what_the_run_held_out_for_scoring(held_out, capsys):
    assert held_out("tune") == "acde"
    assert "4 images (all but fold 2 of 4) used in the training of" in capsys.readouterr().out
    assert held_out("tune", "--fold=2") == "bf"


def test_detect_offers_what_the_run_held_out(held_out, capsys):
    assert held_out("detect") == "gh"
    assert "held out fold 2 of 4: --fold=2 takes its images" in capsys.readouterr().out
    assert held_out("detect", "--fold=2") == "bf"
    assert held_out("detect", "--fold=2", "--", "image.png") is None
    assert "Received: --fold and image files" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "detect", "tune"])
def test_training_images_are_refused_as_a_fold_and_named_in_a_subset(held_out, capsys, caplog, command):
    assert held_out(command, "--fold=1") is None
    error = capsys.readouterr().err
    assert "was trained on 2 of the 2 images of fold 1; it held out fold 2 of 4" in error
    assert held_out(command, "--subset=stage1_train") == "abcdef"
    assert "was trained on 4 of these 6 images" in caplog.text
    caplog.clear()
    assert held_out(command, "--subset=stage1_test") == "gh"
    assert not caplog.text


def test_folds_of_a_file_or_made_anew_must_not_hold_training_images(held_out, tmp_path, capsys):
    Folds((("b",), ("f", "a"))).save(tmp_path / "mine.json")
    assert held_out("evaluate", "--fold=1", f"--folds={tmp_path / 'mine.json'}") == "b"
    assert held_out("evaluate", "--fold=2", f"--folds={tmp_path / 'mine.json'}") is None
    assert "was trained on 1 of the 2 images of fold 2" in capsys.readouterr().err
    assert held_out("evaluate", "--fold=9") is None
    assert "There are folds 1 to 4. Received: fold 9" in capsys.readouterr().err
    assert held_out("evaluate", "--folds=3") is None
    assert "say with --fold=K which part" in capsys.readouterr().err


def test_weights_of_no_fold_take_the_usual_subset(commands, caplog):
    assert commands("evaluate") == "ef"
    assert commands("tune") == "abcd"
    assert commands("detect") == "gh"
    parts = [commands("evaluate", f"--fold={number}", "--folds=3") for number in (1, 2, 3)]
    assert sorted("".join(parts)) == list("abcdef") and {len(part) for part in parts} == {2}
    assert "whether it was trained on images of fold 1 is not known" in caplog.text
    assert len(commands("evaluate", "--fold=1")) == 2, "of four folds"


def test_the_folds_are_those_that_train_makes(commands, monkeypatch, tmp_path):
    got = []

    def fit(train, val, **_):
        got.append(val.image_info)

    network = SimpleNamespace(log_dir=tmp_path / "new", epoch=1, hold_run=nullcontext, fit=fit)
    monkeypatch.setattr("nucleus.models.mask_rcnn.MaskRCNNModel.begin", lambda *_: network)
    monkeypatch.setattr("nucleus.training.validation.validation_callbacks", lambda *_: [])
    arguments = ("train", "--fold=2", "--folds=3", "--set", "SEED=4", "--weights=none", f"--dataset={tmp_path}")
    assert cli.main([*arguments, f"--logs={tmp_path / 'logs'}"]) == 0
    validated = "".join(sorted(info["id"] for info in got[0]))
    assert commands("evaluate", "--fold=2", "--folds=3", "--set", "SEED=4") == validated
    assert read_folds(tmp_path / "new" / "folds.json").held_out == 2


def test_label_images_are_scored_on_a_fold(held_out, tmp_path):
    for name in "bf":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((12, 16), np.uint16))
    folds = held_out.run / "folds.json"
    arguments = ["evaluate", f"--predictions={tmp_path}", f"--dataset={tmp_path}", f"--output={tmp_path / 'out'}"]
    assert cli.main([*arguments, "--fold=2", f"--folds={folds}"]) == 0
    assert held_out.taken == ["bf"]


def test_packed_weights_know_what_was_held_out(held_out, monkeypatch, tmp_path):
    monkeypatch.setattr("trainkit.hdf5.repack_weights", lambda _, output, dtype: output.touch())
    packed = tmp_path / "nucleus_mine.h5"
    weights = held_out.run / "mask_rcnn_nucleus_best.h5"
    assert cli.main(["pack", f"--weights={weights}", f"--output={packed}"]) == 0
    assert find_folds(packed) == find_folds(weights) == read_folds(held_out.run / "folds.json")
    assert held_out("evaluate", weights=packed) == "bf"
    assert find_folds(tmp_path / "other.h5") is None


def test_no_fold_is_no_default():
    with pytest.raises(ValueError, match="cannot be divided into 0 folds"):
        choose_folds(ImageSource(shipped_data()), "all", 0)
