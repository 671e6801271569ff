"""Folds hold each modality in equal parts, are the same for one seed, and decide what `train` trains on."""

import json
from collections import Counter
from contextlib import nullcontext

import pytest

from nucleus import cli
from nucleus.datasets.folds import Folds, make_folds, read_folds
from nucleus.datasets.layouts.base import DatasetError
from nucleus.datasets.layouts.tables import write_modalities
from nucleus.models.mask_rcnn import MaskRCNNModel
from nucleus.models.recipe import Recipe

MODALITIES = {f"{number:03d}": ("fluorescence", "h&e", "brightfield")[min(number % 7, 2)] for number in range(97)}


@pytest.mark.parametrize("count", [4, 10])
def test_folds_hold_every_image_once_and_each_modality_in_equal_parts(count):
    folds = make_folds(MODALITIES, count)
    assert len(folds.ids) == count
    assert sorted(name for fold in folds.ids for name in fold) == sorted(MODALITIES)
    counts = [Counter(MODALITIES[name] for name in fold) for fold in folds.ids]
    for modality in set(MODALITIES.values()):
        sizes = [count[modality] for count in counts]
        assert max(sizes) - min(sizes) <= 1
    sizes = [len(fold) for fold in folds.ids]
    assert max(sizes) - min(sizes) <= 1


def test_folds_depend_on_the_seed_and_not_on_the_order():
    backwards = dict(reversed(MODALITIES.items()))
    assert make_folds(MODALITIES, 4, seed=1) == make_folds(backwards, 4, seed=1)
    assert make_folds(MODALITIES, 4, seed=1) != make_folds(MODALITIES, 4, seed=2)


def test_a_fold_is_held_out_of_the_others():
    folds = Folds((("a", "b"), ("c",), ("d",)))
    assert folds.split(2) == ({"a", "b", "d"}, {"c"})
    for number in (0, 4, None):
        with pytest.raises(DatasetError, match=f"folds 1 to 3. Received: fold {number}"):
            folds.split(number)


def test_folds_are_read_as_they_were_written(tmp_path):
    folds = Folds((("a", "b"), ("c",)), held_out=2)
    folds.save(tmp_path / "folds.json")
    assert read_folds(tmp_path / "folds.json") == folds


@pytest.mark.parametrize("count", [0, 1, 4])
def test_too_few_images_or_folds_are_named(count):
    with pytest.raises(DatasetError, match=f"3 images cannot be divided into {count} folds"):
        make_folds(dict.fromkeys("abc", "one"), count)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{", "no file of folds"),
        ("[]", "no file of folds"),
        ('{"folds": []}', "no file of folds"),
        ('{"folds": [1, 2], "held_out": null}', "no file of folds"),
        ('{"folds": [["a"], ["b"]], "held_out": 3}', "no fold 3 to hold out"),
        ('{"folds": [["a"], ["b", "a"]], "held_out": null}', "the id 'a' occurs twice"),
        ('{"folds": ["ab", "cd"], "held_out": null}', "no file of folds"),
        ('{"folds": [["a"], [2]], "held_out": null}', "an id must be text, and not empty. Received: 2"),
        ('{"folds": [["a"], [""]], "held_out": null}', "an id must be text"),
        ('{"folds": [["a"], ["b"]], "held_out": true}', "no fold True to hold out"),
        ('{"folds": [["a"], ["b"]], "held_out": 1.0}', "no fold 1.0 to hold out"),
        ('{"folds": [["a"]], "held_out": 1, "folds": [["b"]]}', "the name 'folds' occurs twice"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_holds_no_folds_is_named(tmp_path, text, cause):
    path = tmp_path / "folds.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=rf"folds\.json: .*{cause}"):
        read_folds(path)
    with pytest.raises(DatasetError, match=r"gone\.json: cannot be read"):
        read_folds(tmp_path / "gone.json")


@pytest.fixture
def train(tmp_path, monkeypatch, add_sample, rectangle):
    """Returns a function that runs `train` without a network and returns the ids to train, validate and score on."""
    for name in "abcdefgh":
        add_sample(name, [rectangle(1, 1, 5, 5)], folder="extra" if name in "gh" else "stage1_train")
    (tmp_path / "classes.csv").write_text("ImageId,modality\n" + "".join(f"{name},one\n" for name in "abcd"))
    got = []

    class FakeNetwork:
        """Notes the images that a training is given, and those that its scores are of."""

        log_dir, epoch, hold_run = tmp_path / "logs" / "nucleus20240101T0000", 1, staticmethod(nullcontext)

        def fit(self, train, val, *, epochs, callbacks):
            got.append([{info["id"] for info in dataset.image_info} for dataset in (train, val, *callbacks)])

    monkeypatch.setattr(MaskRCNNModel, "begin", lambda *_: FakeNetwork())
    monkeypatch.setattr("nucleus.training.validation.validation_callbacks", lambda model, val: [val])

    def start(*arguments):
        common = ["train", "--dataset", tmp_path, "--val-subset=extra", "--logs", tmp_path / "logs"]
        status = cli.main([str(argument) for argument in (*common, *arguments)])
        return got.pop() if status == 0 else None

    return start


def test_train_holds_a_fold_out_and_saves_the_folds(train, tmp_path):
    file = tmp_path / "logs" / "nucleus20240101T0000" / "folds.json"
    plain, held_out, evaluated = train("--weights=none")
    assert (plain, held_out, evaluated) == (set("abcdef"), set("gh"), set("gh"))
    assert not file.exists()

    validated = []
    for fold in range(1, 5):
        training, validation, evaluated = train("--weights=none", "--fold", fold)
        assert validation == evaluated and training == set("abcdefgh") - validation
        assert len(validation & set("abcd")) == len(validation - set("abcd")) == 1
        assert json.loads(file.read_text())["held_out"] == fold
        validated += validation
    assert sorted(validated) == list("abcdefgh")

    Folds((("a", "b", "c"), ("d", "e"))).save(tmp_path / "mine.json")
    assert train("--weights=none", "--fold=2", "--folds", tmp_path / "mine.json")[:2] == [set("abc"), set("de")]


def test_folds_that_are_not_stratified_are_reported(train, tmp_path, caplog):
    assert train("--weights=none") is not None
    assert not caplog.text, "no folds are made"
    assert train("--weights=none", "--fold=1", "--folds=2") is not None
    (message,) = caplog.messages
    assert "of 4 of 8 images is not known" in message and "2 folds at random, not stratified" in message
    assert all(name in message for name in ("`nucleus modality --dataset", "--output", "--classes"))
    caplog.clear()

    write_modalities(tmp_path / "mine.csv", dict.fromkeys("abcdefgh", "one"))
    assert train("--weights=none", "--fold=1", "--classes", tmp_path / "mine.csv") is not None
    Folds((("a", "b", "c"), ("d", "e"))).save(tmp_path / "mine.json")
    assert train("--weights=none", "--fold=2", "--folds", tmp_path / "mine.json") is not None
    assert not caplog.text, "all are known, or the folds are given"


def test_a_run_that_goes_on_keeps_its_fold(train, tmp_path):
    first = train("--weights=none", "--fold=3", "--folds=2")
    assert first is None, "there is no third fold of two"
    first = train("--weights=none", "--fold=2", "--folds=2")
    checkpoint = tmp_path / "logs" / "nucleus20240101T0000" / "mask_rcnn_nucleus_0001.h5"
    checkpoint.touch()
    assert train("--weights=last") == first
    assert train("--weights", checkpoint) == first, "the checkpoint of an epoch takes its run up too"
    assert train("--weights=last", "--fold=2") == first, "its own fold may be named"
    assert train("--weights=last", "--fold=2", "--folds=2") == first
    assert train("--weights=last", "--fold=2", "--folds", checkpoint.with_name("folds.json")) == first


def test_a_run_that_goes_on_refuses_another_fold(train, tmp_path, capsys):
    assert train("--weights=none", "--fold=1", "--folds=2") is not None
    run = tmp_path / "logs" / "nucleus20240101T0000"
    (run / "mask_rcnn_nucleus_0001.h5").touch()
    before = (run / "folds.json").read_bytes()
    checkpoint = f"--weights={run / 'mask_rcnn_nucleus_0001.h5'}"
    for weights in ("--weights=last", checkpoint):
        for other in (["--fold=2"], ["--fold=2", f"--folds={run / 'folds.json'}"], ["--fold=1", "--folds=4"]):
            assert train(weights, *other) is None
            error = capsys.readouterr().err
            assert "this run held out fold 1 of 2, other images than" in error and " ".join(other) in error
    assert train("--weights=last", "--fold=3") is None
    assert "There are folds 1 to 2. Received: fold 3" in capsys.readouterr().err
    assert (run / "folds.json").read_bytes() == before

    (run / "folds.json").unlink()
    assert train("--weights=last", "--fold=1") is None
    assert "this run held no fold out. Received: --fold=1" in capsys.readouterr().err
    assert not (run / "folds.json").exists()
    assert train("--weights=last")[0] == set("abcdef")


def test_a_training_that_begins_with_a_runs_weights_holds_out_what_they_have_not_learned(
    train, tmp_path, capsys, caplog
):
    begin = tmp_path / "elsewhere" / "mask_rcnn_nucleus_best.h5"
    begin.parent.mkdir()
    begin.touch()
    folds = Folds((("a", "c", "g"), ("b", "d", "e", "f", "h")), held_out=1)
    folds.save(begin.parent / "folds.json")
    assert train("--weights", begin, "--fold=2", f"--folds={begin.parent / 'folds.json'}") is None
    error = capsys.readouterr().err
    assert "mask_rcnn_nucleus_best.h5: was trained on 5 of these 5 images; it held out fold 1 of 2. Hold out" in error
    assert not (tmp_path / "logs" / "nucleus20240101T0000" / "folds.json").exists()
    assert train("--weights", begin, "--fold=1", f"--folds={begin.parent / 'folds.json'}")[1] == set("acg")
    assert not caplog.text

    assert train("--weights", begin)[1] == set("gh"), "as asked for, but not without a word"
    assert "was trained on 1 of the 2 images to validate on" in caplog.text
    caplog.clear()

    (begin.parent / "folds.json").unlink()
    Folds((("a",), ("b", "c"))).save(tmp_path / "mine.json")
    assert train("--weights", begin, "--fold=1", f"--folds={tmp_path / 'mine.json'}")[1] == {"a"}
    assert not caplog.text, "weights of no run, such as published ones"
    Recipe("small").save(begin.parent)
    assert train("--weights", begin, "--fold=1", f"--folds={tmp_path / 'mine.json'}")[1] == {"a"}
    assert "whether it was trained on images of fold 1 is not known" in caplog.text


def test_folds_are_of_no_use_without_the_fold(train, capsys):
    assert train("--weights=none", "--folds=2") is None
    assert "say with --fold=K which part" in capsys.readouterr().err


def test_folds_of_another_data_set_are_named(train, tmp_path, capsys):
    Folds((("a", "zebra"), ("d", "e"))).save(tmp_path / "mine.json")
    assert train("--weights=none", "--fold=2", "--folds", tmp_path / "mine.json") is None
    assert "train+extra: zebra is in the folds but not among these images" in capsys.readouterr().err
