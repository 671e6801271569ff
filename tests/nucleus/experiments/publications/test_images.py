"""Images of an experiment: their folds, their modalities, and test sets beside them."""

from dataclasses import replace

import pytest

from nucleus import cli
from nucleus.datasets.dataset import DatasetError, shipped_data
from nucleus.datasets.layouts.tables import write_modalities
from nucleus.experiments.publications import find_experiment, runner
from nucleus.experiments.publications.experiment import Figure
from nucleus.experiments.publications.images import Images, spread
from nucleus.experiments.publications.quick import quick
from nucleus.experiments.publications.runner import Options, reproduce
from nucleus.experiments.publications.test_sets import require_named


def run(*arguments):
    return cli.main(["reproduce", *map(str, arguments)])


@pytest.fixture
def no_training(monkeypatch):
    """Fails a test in which a training is begun."""
    monkeypatch.setattr(runner, "train_or_resume", lambda *_: pytest.fail("a training was begun"))


@pytest.mark.parametrize(
    ("arguments", "causes"),
    [
        (("mlp-unet-128", "--quick", "--test={tmp}/gone"), ("{tmp}/gone: there is no such", "This is the test set")),
        (("vuola-ensemble", "--quick", "--test={tmp}/gone"), ("{tmp}/gone: there is no such", "This is the test set")),
        (("mlp-unet-128", "--quick", "--test={glas}", "--test-subset=testC"), ("no subset 'testC'", "--test-subset")),
        (
            ("mlp-unet-128", "--quick", "--test={glas}", "--test-layout=coco"),
            ("expected a JSON file", "--test-layout"),
        ),
        (("mlp-unet-128", "--quick", "--test-subset=testC"), ("--test-subset", "--test=PATH")),
        (("lehmann-unet", "--dataset={glas}", "--test={shipped}"), ("{shipped}: there is no subset 'testA'", "testB")),
        (("lehmann-unet", "--dataset={glas}"), ("{glas}: there is no subset 'testB'", "warwick.ac.uk")),
    ],
)
def test_missing_test_images_are_named_before_anything_is_trained(
    no_training, glas, tmp_path, capsys, arguments, causes
):
    for path in glas.glob("testB*"):
        path.unlink()
    names = {"tmp": tmp_path, "glas": glas, "shipped": shipped_data()}
    assert run(*(part.format(**names) for part in arguments), "--output", tmp_path / "out") == 1
    message = capsys.readouterr().err
    assert all(cause.format(**names) in message for cause in causes), message
    assert ("warwick" in message) == ("warwick.ac.uk" in causes), "where training images are is another matter"
    assert not (tmp_path / "out").exists()


def test_masks_of_a_test_set_are_read_before_anything_is_trained(no_training, add_sample, rectangle, tmp_path, capsys):
    add_sample("a", [rectangle(1, 1, 5, 5, shape=(5, 5))])
    assert run("mlp-unet-128", "--quick", "--test", tmp_path, "--output", tmp_path / "out") == 1
    assert "the mask has shape (5, 5)" in capsys.readouterr().err


def test_a_given_file_names_the_modalities_of_a_test_set(add_sample, rectangle, bright, tmp_path, caplog, capsys):
    for name in "ab":
        add_sample(name, [rectangle(1, 1, 5, 5)], folder="test/stage1_test")
    classes = tmp_path / "mine.csv"
    figures = (Figure("mAP", 0.5), Figure("mAP", 0.5, "fluorescence"))
    experiment = replace(find_experiment("vuola-unet-gentle-plain"), figures=figures)
    options = Options(tmp_path / "out", tmp_path / "gone", test=tmp_path / "test", weights=bright)
    assert [row.images for row in reproduce(experiment, options)] == [2, 0]
    assert "figures of fluorescence stay empty, as the modality of 2 of the 2 images" in caplog.text
    caplog.clear()
    write_modalities(classes, {"b": "fluorescence"})
    assert [row.images for row in reproduce(experiment, replace(options, classes=classes))] == [2, 1]
    assert "figures of fluorescence" not in caplog.text
    assert "does not name 1 of 2 images" in caplog.text
    write_modalities(classes, {"c": "fluorescence"})
    with pytest.raises(DatasetError, match=r"mine\.csv: names none of the images"):
        reproduce(experiment, replace(options, classes=classes))


def test_a_given_file_may_name_the_modalities_of_one_of_two_data_sets(add_sample, rectangle, tmp_path):
    classes = tmp_path / "mine.csv"
    for name in "ab":
        add_sample(name, [rectangle(1, 1, 5, 5)], folder=f"{name}/stage1_train")
    source = find_experiment("mlp-unet-128").source
    both = [(Images(source, tmp_path / name, classes=classes), "all") for name in "ab"]
    for name, other in ("ab", "ba"):
        write_modalities(classes, {name: "phase"})
        require_named(classes, both)
        told = {info["id"]: info["modality"] for images, subset in both for info in images.load(subset).image_info}
        assert told == {name: "phase", other: "unknown"}


def test_few_images_are_of_many_modalities(tmp_path):
    infos = []
    for number, modality in enumerate("aaabbc"):
        path = tmp_path / f"{number}"
        path.write_bytes(b"x" * (10 - number))
        infos.append({"id": str(number), "path": str(path), "modality": modality})
    assert [info["id"] for info in spread(infos, 3)] == ["2", "4", "5"]
    assert [info["id"] for info in spread(infos, 4)] == ["2", "3", "4", "5"]


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
