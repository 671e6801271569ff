"""Comparing models out of fold: who is trained on and predicts what, the table, and going on after a stop.

One tiny comparison is run, interrupted in its last training and started again; most tests look at what it left.
"""

import json
import re
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

from nucleus import cli
from nucleus.datasets.dataset import NucleusDataset, shipped_data
from nucleus.datasets.folds import make_folds, read_folds
from nucleus.ensemble.fitting import NothingToLearnError
from nucleus.evaluation.scores import count_matches, overlaps
from nucleus.experiments.comparison import ComparisonPlan, Member, compare, runner
from trainkit.files import file_digest

MEMBERS = ("classical", "first", "second")
ROWS = [name + views for name in (*MEMBERS, "ensemble") for views in ("", "+tta")]
# Of the first, every pixel is a nucleus, so that there is something for an ensemble to learn from on every backend.
OPTIONS = (
    *("--quick", "--tta=flips", "--member=classical=classical/otsu"),
    *("--member=first=unet/small", "--set=first.MASK_THRESHOLD=0"),
    *("--member=second=unet/original", "--set=second.CLAHE=True"),
    *("--set=first.AUGMENTATION=none", "--set=second.AUGMENTATION=none"),
)


def run(output, *arguments):
    return cli.main(["compare", *arguments, f"--output={output}"])


@pytest.fixture(scope="module")
def spied():
    """Notes which images are trained on and predicted, by folder; raises before the training named in `stop`."""
    noted = SimpleNamespace(trained={}, predicted={}, stop="")
    train, detect = runner.train_or_resume, runner.detect

    def names(dataset):
        return {info["id"] for info in dataset.image_info}

    def noting_train(recipe, weights, path, folder, train_dataset, *others, **options):
        key = "/".join(folder.parts[-3:-1])
        if key == noted.stop:
            raise KeyboardInterrupt
        noted.trained[key] = names(train_dataset)
        return train(recipe, weights, path, folder, train_dataset, *others, **options)

    def noting_detect(model, dataset, results):
        noted.predicted["/".join(results.folder.parts[-3:])] = names(dataset)
        return detect(model, dataset, results)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "train_or_resume", noting_train)
        patch.setattr(runner, "detect", noting_detect)
        yield noted


@pytest.fixture(scope="module")
def finished(tmp_path_factory, spied):
    """The folder of a comparison, and what was trained and predicted before and after it was interrupted."""
    output = tmp_path_factory.mktemp("compare") / "out"
    spied.stop = "second/fold2"
    assert run(output, *OPTIONS) == 130
    assert not (output / "table.csv").exists()
    before = SimpleNamespace(trained=dict(spied.trained), predicted=dict(spied.predicted))
    spied.stop = ""
    spied.trained.clear()
    spied.predicted.clear()
    assert run(output, *OPTIONS) == 0
    after = SimpleNamespace(trained=dict(spied.trained), predicted=dict(spied.predicted))
    return SimpleNamespace(output=output, before=before, after=after)


@pytest.fixture
def copied(finished, tmp_path, spied, monkeypatch):
    """A copy of the comparison's folder; what happens from now on is noted, and no pictures are drawn."""
    monkeypatch.setattr(runner, "write_report", lambda *_: None)
    spied.trained.clear()
    spied.predicted.clear()
    return shutil.copytree(finished.output, tmp_path / "out")


def images(output):
    dataset = NucleusDataset()
    dataset.load_nucleus(shipped_data(), "train+val")
    dataset.keep_images({name for fold in read_folds(output / "folds.json").ids for name in fold}, "shipped")
    dataset.prepare()
    return dataset


def test_what_was_done_before_the_stop_is_not_done_again(finished):
    assert set(finished.before.trained) == {"first/fold1", "first/fold2", "second/fold1"}
    assert set(finished.after.trained) == {"second/fold2"}
    assert not finished.before.predicted.keys() & finished.after.predicted.keys()
    assert {name.rpartition("/")[0] for name in finished.after.predicted} == {"second/fold2"}


def test_no_model_predicts_an_image_that_it_was_trained_on(finished):
    trained = {**finished.before.trained, **finished.after.trained}
    predicted = {**finished.before.predicted, **finished.after.predicted}
    everything = {info["id"] for info in images(finished.output).image_info}
    assert len(trained) == 4 and len(everything) == 3
    for fold, learned in trained.items():
        for folder in ("predictions", "predictions_tta"):
            held_out = predicted[f"{fold}/{folder}"]
            assert held_out and not held_out & learned and held_out | learned == everything


def test_every_image_is_predicted_once_by_every_member(finished):
    everything = sorted(info["id"] for info in images(finished.output).image_info)
    for name in (*MEMBERS, "ensemble"):
        for folder in ("predictions", "predictions_tta"):
            path = finished.output / name / folder
            assert sorted(file.stem for file in (path / "labels").glob("*.png")) == everything
            assert sorted(pd.read_csv(path / "images.csv")["ImageId"]) == everything
            if name in ("first", "second"):
                parts = [finished.output / name / f"fold{number}" / folder / "labels" for number in (1, 2)]
                assert sorted(file.stem for part in parts for file in part.glob("*.png")) == everything


def test_the_table_holds_the_scores_of_the_written_label_images(finished):
    table = pd.read_csv(finished.output / "table.csv").set_index(["predictions", "group"])
    assert list(dict.fromkeys(table.index.get_level_values(0))) == ROWS
    dataset = images(finished.output)
    for name in ROWS:
        member, plus, _ = name.partition("+")
        folder = finished.output / member / ("predictions_tta" if plus else "predictions") / "labels"
        pairs = {}
        for index in dataset.image_ids:
            info = dataset.image_info[index]
            labels = cv2.imread(str(folder / f"{info['id']}.png"), cv2.IMREAD_UNCHANGED).astype(np.int32)
            pairs[info["modality"]] = overlaps(dataset.load_labels(index)[0], labels)
        assert len(pairs) == 3, "one image of each modality"
        precision = {group: count_matches(pair).average_precision for group, pair in pairs.items()}
        for group, values in {**precision, "all": np.mean(list(precision.values()), axis=0)}.items():
            assert table.loc[(name, group), "mAP"] == pytest.approx(values.mean(), abs=1e-6)
            assert table.loc[(name, group), "AP50"] == pytest.approx(values[0], abs=1e-6)
        counts = [count_matches(pair, 0.7) for pair in pairs.values()]
        found, wrong = (sum(int(getattr(c, kind)[0]) for c in counts) for kind in ("true_positives", "false_positives"))
        missed = sum(int(c.false_negatives[0]) for c in counts)
        expected = 2 * found / (2 * found + wrong + missed)
        assert table.loc[(name, "all"), "F1"] == pytest.approx(expected, abs=1e-6)
    assert table.loc[("classical", "all"), "mAP"] > 0.1


def test_the_main_scores_stand_in_a_table_for_each_group_of_images(finished):
    table = pd.read_csv(finished.output / "table.csv").set_index(["group", "predictions"])
    text = (finished.output / "table.md").read_text(encoding="utf-8")
    blocks = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    titles = [line for line in text.splitlines() if line.endswith((" nuclei:", " nucleus:"))]
    assert [title.partition(",")[0] for title in titles] == list(dict.fromkeys(table.index.get_level_values(0)))
    assert titles[0].startswith("all, 3 images, ")
    columns = ["mAP", "AP50", "F1", "precision", "recall", "Dice", "IoU", "oseg", "useg"]
    for title, (head, _, *rows) in zip(titles, blocks, strict=True):
        assert re.findall(r"\w+", head) == columns
        found = {name: values for name, *values in (row.strip("| ").split(" | ") for row in rows)}
        assert list(found) == ROWS
        for name, values in found.items():
            expected = table.loc[(title.partition(",")[0], name), columns]
            assert [float(value.strip("*")) for value in values] == pytest.approx(expected.tolist(), abs=6e-4)
        for column in range(len(columns)):
            shown = {name: float(values[column].strip("*")) for name, values in found.items()}
            best = (min if columns[column].endswith("seg") else max)(shown.values())
            assert all((values[column][0] == "*") == (shown[name] == best) for name, values in found.items())
    for name in columns:
        assert f"\n- {name}, " in text


def test_tables_and_report_name_every_row_and_what_was_run(finished):
    text = (finished.output / "table.md").read_text(encoding="utf-8")
    page = (finished.output / "report" / "report.html").read_text(encoding="utf-8")
    for name in ROWS:
        assert f"| {name} |" in text and name in page
    assert "A quick run" in text and "scores say nothing" in text
    (classical,) = (line for line in text.splitlines() if line.startswith("- classical: "))
    assert "66 training images of the 2018 Data Science Bowl" in classical and "not quite out of fold" in classical
    assert text.count("66 training images") == 1, "what is trained has learned from other folds only"

    about = json.loads((finished.output / "comparison.json").read_text(encoding="utf-8"))
    assert about["quick"] and about["images"] == 3 and about["folds"] == [2, 1] and about["seed"] == 0
    assert about["environment"]["backend"] in ("tensorflow", "jax", "torch")
    assert about["environment"]["versions"]["numpy"] == np.__version__
    assert about["members"]["second"]["effective_settings"]["CLAHE"] == "True"
    assert about["members"]["second"]["effective_settings"]["EVALUATE_EVERY"] == "0"
    steps = {step["name"]: step for step in about["steps"]}
    training = steps["second, fold 2, training"]
    weights = finished.output / "second" / "fold2" / "training" / training["outcome"]["weights"]
    assert file_digest(weights, "sha256") == training["outcome"]["sha256"] and training["seconds"] > 0
    assert read_folds(weights.parent / "folds.json").held_out == 2
    assert set(steps["ensemble, predictions"]["outcome"]["picked"]) == {"first", "second"}
    assert not steps["ensemble, predictions"]["outcome"]["threshold_chosen"], "two folds cannot choose it"


def test_a_finished_comparison_does_nothing_again(copied, spied):
    record = copied / "report" / "step.json"
    before = record.read_bytes()
    assert run(copied, *OPTIONS) == 0
    assert not spied.trained and not spied.predicted and record.read_bytes() == before


def test_what_is_missing_is_made_again_with_all_that_depends_on_it(copied, spied, capsys):
    table = (copied / "table.csv").read_bytes()
    shutil.rmtree(copied / "second" / "fold2" / "predictions")
    shutil.rmtree(copied / "ensemble" / "predictions_tta")
    assert run(copied, *OPTIONS) == 0
    assert not spied.trained and set(spied.predicted) == {"second/fold2/predictions"}
    lines = [line for line in capsys.readouterr().out.splitlines() if line.endswith(" ...")]
    assert lines == [
        "second/fold2, predictions ...",
        "second, predictions of all folds ...",
        "ensemble, predictions ...",
        "ensemble, predictions_tta ...",
        "scores and report ...",
    ]
    assert (copied / "table.csv").read_bytes() == table


def test_an_ensemble_without_anything_to_learn_from_is_left_out_with_a_report(copied, monkeypatch):
    def fail(*_):
        raise NothingToLearnError("nobody found anything")

    monkeypatch.setattr("nucleus.ensemble.ensemble_model.fit_ensemble", fail)
    shutil.rmtree(copied / "ensemble" / "predictions_tta")
    assert run(copied, *OPTIONS) == 0
    text = (copied / "table.md").read_text(encoding="utf-8")
    assert "| ensemble |" in text and "| ensemble+tta |" not in text
    assert "ensemble+tta is left out: nobody found anything" in text


@pytest.mark.parametrize(
    ("changed", "causes"),
    [
        ("--set=second.LEARNING_RATE=0.5", ("second/member.json", "LEARNING_RATE", "0.5")),
        ("--seed=3", ("first/member.json", "SEED", "'0'", "'3'")),
        ("--folds=3", ("folds.json", "other folds")),
    ],
)
def test_a_folder_of_another_comparison_is_refused(finished, capsys, changed, causes):
    before = (finished.output / "table.csv").read_bytes()
    assert run(finished.output, *OPTIONS, changed) == 1
    message = capsys.readouterr().err
    assert all(cause in message for cause in causes), message
    assert (finished.output / "table.csv").read_bytes() == before


def test_weights_that_have_learned_what_is_scored_are_refused(finished, tmp_path):
    weights = next((finished.output / "first" / "fold1" / "training").glob("nucleus*/*.h5"))
    plan = ComparisonPlan(
        [Member("unet", "unet", "small", weights=str(weights))], read_folds(finished.output / "folds.json")
    )
    with pytest.raises(ValueError, match="was trained on 1 of the images that are scored"):
        compare(plan, None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_learning_and_views_there_is_one_row(tmp_path):
    def load(only=None, **_):
        dataset = NucleusDataset()
        dataset.load_nucleus(shipped_data(), "val")
        dataset.keep_images(only, "val")
        dataset.prepare()
        return dataset

    everything = NucleusDataset()
    everything.load_nucleus(shipped_data(), "val")
    folds = make_folds({info["id"]: info["modality"] for info in everything.image_info[:2]}, 2)
    text = compare(ComparisonPlan([Member("otsu", "classical", "otsu")], folds, views="none"), load, tmp_path)
    groups = pd.read_csv(tmp_path / "table.csv")["group"]
    assert text.count("| otsu |") == len(groups) and "tta" not in text and "ensemble" not in text


def test_other_images_of_the_same_names_are_refused(add_sample, rectangle, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "write_report", lambda *_: None)
    for name in ("first", "second"):
        add_sample(name, [rectangle(1, 1, 5, 5)])

    def load(only=None, **_):
        dataset = NucleusDataset()
        dataset.load_nucleus(tmp_path, "stage1_train")
        dataset.prepare()
        return dataset

    plan = ComparisonPlan(
        [Member("otsu", "classical", "otsu")], make_folds({"first": "", "second": ""}, 2), views="none"
    )
    compare(plan, load, tmp_path / "out")
    before = (tmp_path / "out" / "table.csv").read_bytes()
    image = next(tmp_path.rglob("first.png"))
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(ValueError, match=r"images\.json: made with other images"):
        compare(plan, load, tmp_path / "out")
    assert (tmp_path / "out" / "table.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "causes"),
    [
        (("--epochs=yolo=3",), ("yolo", "classical, unet, mask_rcnn")),
        (("--epochs=classical=3",), ("classical", "not trained")),
        (("--weights=unet=coco",), ("unet", "coco", "imagenet")),
        (("--weights=unet=gone.h5",), ("gone.h5",)),
        (("--set=unet.CLAHEE=True",), ("CLAHEE", "CLAHE")),
        (("--member=a=unet/smal",), ("smal", "small")),
        (("--member=a=unet", "--member=a=classical"), ("one name",)),
        (("--member=ensemble=classical",), ("ensemble",)),
        (("--member=../a=classical",), ("../a",)),
        (("--folds=1",), ("1 folds",)),
        (("--folds=gone.json",), ("gone.json",)),
        (("--dataset=gone",), ("gone",)),
    ],
)
def test_what_cannot_be_compared_is_named_before_anything_is_written(tmp_path, capsys, arguments, causes):
    if not arguments[0].startswith("--dataset"):
        arguments = (f"--dataset={shipped_data()}", *arguments)
    assert run(tmp_path / "out", *arguments) == 1
    message = capsys.readouterr().err
    assert all(cause in message for cause in causes), message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong", ["--member=yolo", "--member=a=yolo", "--set=CLAHE=True", "--epochs=unet=0", "--iou=2"]
)
def test_wrong_usage_ends_with_status_2(tmp_path, wrong):
    with pytest.raises(SystemExit) as ended:
        run(tmp_path / "out", wrong)
    assert ended.value.code == 2
