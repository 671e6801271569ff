"""Experiments that go on where they were stopped, and the folds that they keep."""

import shutil
from types import SimpleNamespace

import pandas as pd
import pytest

from nucleus import cli
from nucleus.datasets.dataset import DatasetError, shipped_data
from nucleus.datasets.layouts.tables import write_modalities
from nucleus.experiments.publications import find_experiment, runner
from nucleus.experiments.publications.images import Images
from nucleus.experiments.publications.quick import quick
from nucleus.experiments.publications.runner import Options, reproduce
from nucleus.experiments.publications.table import CSV_FILE
from nucleus.models.unet import UNetModel


def test_a_tiny_u_net_in_two_trainings_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    experiment, options = quick(find_experiment("lehmann-unet")), Options(tmp_path, quick=True)
    begun = []
    begin = UNetModel.begin

    def stop_at_the_second(recipe, model_dir, weights, path=None):
        begun.append((weights, path and path.name))
        if len(begun) == 2:
            raise KeyboardInterrupt
        return begin(recipe, model_dir, weights, path)

    monkeypatch.setattr(UNetModel, "begin", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        reproduce(experiment, options)
    assert not (tmp_path / CSV_FILE).exists()
    rows = reproduce(experiment, options)
    assert begun == [("none", None), ("previous", "begin.h5"), ("previous", "begin.h5")]
    measured = {(row.metric, row.part): row.measured for row in rows}
    assert measured["BCE", "A"] == measured["BCE", "B"] < 0.05, "both parts are the same image in a quick run"
    assert measured["object_F1", "A"] > 0.8 and measured["object_Dice", "A"] > 0.8, "it was learnt"
    assert {row.images for row in rows} == {1, 2} and all(row.quick for row in rows)
    assert len(pd.read_csv(tmp_path / CSV_FILE)) == len(rows) == len(experiment.figures)

    runs = sorted((tmp_path / "lehmann-unet" / "run").iterdir())
    assert [path.name for path in runs] == ["1-original", "2-original-tuned"]
    assert all(len(list(path.glob("nucleus*/unet_nucleus_0001.h5"))) == 1 for path in runs)
    with pytest.raises(ValueError, match=r"1-original.*other settings"):
        reproduce(experiment, Options(tmp_path, settings={"LEARNING_RATE": 0.5}, quick=True))


def run(*arguments):
    return cli.main(["reproduce", *map(str, arguments)])


def copy_shipped(to, alter):
    """Copies the shipped data set without its cache, and adds a byte to the files of its images if told."""
    shutil.copytree(shipped_data(), to, ignore=shutil.ignore_patterns(".*"))
    for path in to.glob("stage1_train/*/images/*.png") if alter else ():
        path.write_bytes(path.read_bytes() + b"\0")
    return to


def test_a_training_on_other_images_is_not_taken_for_one_on_these(tmp_path, monkeypatch, threshold_model, capsys):
    def begin(recipe, folder, *_):
        log_dir = folder / "nucleus20240101T0000"
        return SimpleNamespace(log_dir=log_dir, fit=lambda *_, **__: (log_dir / "unet_nucleus_0001.h5").touch())

    monkeypatch.setattr(UNetModel, "begin", begin)
    monkeypatch.setattr("nucleus.training.resuming.validation_callbacks", lambda *_: [])
    monkeypatch.setattr(runner, "load_model", lambda *_: threshold_model)
    same, other = copy_shipped(tmp_path / "same", False), copy_shipped(tmp_path / "other", True)
    arguments = ("mlp-unet-128", "--quick", "--output", tmp_path / "out")
    assert run(*arguments) == 0 and run(*arguments, "--dataset", same) == 0
    table = pd.read_csv(tmp_path / "out" / CSV_FILE)
    assert table["dataset"].tolist() == [str(shipped_data()), str(same)]
    capsys.readouterr()
    assert run(*arguments, "--dataset", other) == 1
    assert "images.json: made with other images" in capsys.readouterr().err
    assert len(pd.read_csv(tmp_path / "out" / CSV_FILE)) == len(table)


def test_a_fold_that_is_named_twice_is_held_out_once(tmp_path):
    images = Images(quick(find_experiment("vuola-unet-gentle-plain")).source, shipped_data())
    assert [division.name for division in images.divisions(tmp_path, (2, 1, 2))] == ["fold2", "fold1"]


def test_kept_folds_are_those_of_the_same_images(tmp_path, add_sample, rectangle):
    for name in "abcd":
        add_sample(name, [rectangle(1, 1, 5, 5)])
    images = Images(find_experiment("vuola-unet-gentle-plain").source, tmp_path)
    assert len(list(images.divisions(tmp_path / "out"))) == len(list(images.divisions(tmp_path / "out"))) == 4
    add_sample("e", [rectangle(1, 1, 5, 5)])
    with pytest.raises(DatasetError, match=r"folds\.json.*other images"):
        list(images.divisions(tmp_path / "out"))


def test_folds_are_held_out_in_turn_and_kept(tmp_path):
    experiment = quick(find_experiment("vuola-mask-rcnn-gentle-resnet50"))
    rows = reproduce(experiment, Options(tmp_path, quick=True))
    (again,) = [
        row for row in reproduce(experiment, Options(tmp_path, held_out=(2,), quick=True)) if row.metric == "mAP"
    ]
    by_metric = {row.metric: row for row in rows}
    assert by_metric["mAP"].images == 2, "every image is held out once"
    assert by_metric["mAP"].measured > 0.45 and by_metric["recall"].measured > 0.6, "nuclei are found in both"
    assert again.images == 1 and again.measured_on == "held-out images of the folds"
    assert set(by_metric) == {"mAP", "Dice", "precision", "recall", "oseg", "useg"}
    folder = tmp_path / experiment.name
    assert sorted(path.name for path in folder.iterdir()) == ["fold1", "fold2", "folds.json"]


def test_folds_go_by_the_modalities_of_a_given_file(tmp_path, add_sample, rectangle, caplog):
    for name in "abcdefgh":
        add_sample(name, [rectangle(1, 1, 5, 5)])
    write_modalities(tmp_path / "mine.csv", {name: "one" if name in "abcd" else "other" for name in "abcdefgh"})
    source = find_experiment("vuola-unet-gentle-plain").source
    divisions = list(Images(source, tmp_path, classes=tmp_path / "mine.csv").divisions(tmp_path / "stratified"))
    held_out = [division.val[1] for division in divisions]
    assert [len(ids & set("abcd")) for ids in held_out] == [len(ids - set("abcd")) for ids in held_out] == [1] * 4
    assert not caplog.text
    assert len(list(Images(source, tmp_path).divisions(tmp_path / "random"))) == 4
    assert "of 8 of 8 images is not known" in caplog.text and "nucleus modality" in caplog.text
