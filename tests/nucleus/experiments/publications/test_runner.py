"""Running experiments: what is trained and measured, what a stopped run goes on with, and what is refused."""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from nucleus import cli
from nucleus.datasets.dataset import VAL_IMAGE_IDS, shipped_data
from nucleus.datasets.folds import find_folds
from nucleus.ensemble.config import PRESETS
from nucleus.evaluation.scores.ranking import PUBLISHED
from nucleus.experiments.publications import find_experiment, runner
from nucleus.experiments.publications.quick import quick
from nucleus.experiments.publications.runner import Options, reproduce
from nucleus.experiments.publications.table import CSV_FILE
from nucleus.images.labels import drop_small
from nucleus.models.unet import UNetModel


def run(*arguments):
    return cli.main(["reproduce", *map(str, arguments)])


def test_given_weights_are_scored_on_both_parts_of_glas(glas, bright, tmp_path, capsys):
    output = tmp_path / "out"
    assert run("lehmann-mask-rcnn", "--dataset", glas, "--weights", bright, "--output", output) == 0
    table = pd.read_csv(output / CSV_FILE).fillna({"part": ""}).set_index(["metric", "part"])
    measured = table["measured"]
    assert measured["object_F1", "A"] == 1 and measured["object_Dice", "A"] == 1
    assert measured["object_F1", "B"] == pytest.approx(2 / 3, abs=1e-5) and measured["count_ratio", "B"] == 0.5
    assert measured["object_Hausdorff", "A"] == 0 and measured["object_Hausdorff", "B"] > 0
    # First everywhere but in F1 on part B, where seven published entries besides its own are above two thirds.
    rivals = [row for name, row in PUBLISHED.items() if name != "DTU-MASKRCNN"]
    dice = 1 + sum(row[3] > measured["object_Dice", "B"] for row in rivals)
    assert measured["rank_sum", ""] == 4 + 8 + dice
    assert table["images"]["rank_sum", ""] == 3
    assert np.isnan(measured["BCE", "A"]), "binary masks have none"
    assert table["images"].loc[["object_F1"]].tolist() == [2, 1]
    assert table["weights"].unique().tolist() == [str(bright)] and table["quick"].unique().tolist() == ["no"]
    assert "published" in capsys.readouterr().out


def test_the_parts_of_glas_are_those_of_another_test_set_too(glas, bright, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ("lehmann-mask-rcnn", "--weights", bright, "--test", glas, "--output", output)
    assert run(*arguments) == 0
    table = pd.read_csv(output / CSV_FILE).fillna({"part": "", "dataset": ""}).set_index(["metric", "part"])
    assert table["measured"]["object_F1", "A"] == 1 and 0 < table["measured"]["object_F1", "B"] < 1
    assert table["images"].loc[["object_F1"]].tolist() == [2, 1] and table["measured"]["rank_sum", ""] >= 6
    assert table["measured_on"].unique().tolist() == [f"{glas} testA+testB"]
    assert table["dataset"].unique().tolist() == [""], "nothing of the experiment's own was used"
    assert run(*arguments, "--test-subset=testA") == 1
    assert "testA and testB are scored, each by itself" in capsys.readouterr().err


def test_an_experiment_of_a_users_file_gets_a_row_in_the_table(glas, bright, tmp_path):
    path = tmp_path / "my.toml"
    path.write_text(
        '[publication]\nauthors = "A"\ntitle = "B"\npublished = "2024"\n'
        '[experiments.mine]\nbase = "lehmann-mask-rcnn"\nsummary = "mine"\nplace = "table 1"\n'
        'figures = [{ part = "A", object_F1 = 0.25 }]\n'
    )
    assert run("mine", "--file", path, "--dataset", glas, "--weights", bright, "--output", tmp_path / "out") == 0
    (row,) = pd.read_csv(tmp_path / "out" / CSV_FILE).to_dict("records")
    assert (row["experiment"], row["metric"], row["published"]) == ("mine", "object_F1", 0.25)
    assert row["measured"] == 1 and row["citation"] == "A. B. 2024. table 1"


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


def copy_shipped(to, alter):
    """Copies the shipped data set without its cache, and adds a byte to the files of its images if told."""
    shutil.copytree(shipped_data(), to, ignore=shutil.ignore_patterns(".*"))
    for path in to.glob("stage1_train/*/images/*.png") if alter else ():
        path.write_bytes(path.read_bytes() + b"\0")
    return to


def test_a_training_on_other_images_is_not_taken_for_one_on_these(tmp_path, monkeypatch, threshold_model, capsys):
    def begin(recipe, folder, *_):
        log_dir = folder / "nucleus20240101T0000"
        fit = (log_dir / "unet_nucleus_0001.h5").touch
        return SimpleNamespace(log_dir=log_dir, hold_run=nullcontext, fit=lambda *_, **__: fit())

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


def find_brighter(image):
    """Finds what is brighter than an image's mean and has some pixels."""
    grey = image.mean(axis=2)
    labels, kept = drop_small(ndimage.label(grey > grey.mean())[0], 50)
    return labels, np.ones(len(kept), np.float32)


@pytest.fixture
def untrained(monkeypatch, fake_model):
    """Lets trainings write an empty file, whose model finds what is bright; returns a function to exchange how."""

    def train(recipe, weights, path, folder, *_):
        file = folder / "nucleus20240101T0000" / "weights.h5"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        return file

    def use(find):
        monkeypatch.setattr(runner, "load_model", lambda *_: fake_model(find))

    monkeypatch.setattr(runner, "train_or_resume", train)
    use(find_brighter)
    return use


def test_folds_are_held_out_in_turn_and_kept(untrained, tmp_path):
    experiment = quick(find_experiment("vuola-mask-rcnn-gentle-resnet50"))
    rows = reproduce(experiment, Options(tmp_path, quick=True))
    (again,) = [
        row for row in reproduce(experiment, Options(tmp_path, held_out=(2,), quick=True)) if row.metric == "mAP"
    ]
    by_metric = {row.metric: row for row in rows}
    assert by_metric["mAP"].images == 2, "every image is held out once"
    assert again.images == 1 and again.measured_on == "held-out images of the folds"
    assert set(by_metric) == {"mAP", "Dice", "precision", "recall", "oseg", "useg"}
    folder = tmp_path / experiment.name
    assert sorted(path.name for path in folder.iterdir()) == ["fold1", "fold2", "folds.json"]


def test_weights_of_a_fold_are_scored_on_what_it_held_out(untrained, tmp_path, capsys):
    experiment = quick(find_experiment("vuola-unet-gentle-plain"))
    reproduce(experiment, Options(tmp_path, quick=True))
    weights = sorted((tmp_path / experiment.name).glob("fold*/1-*/*/weights.h5"))
    divided = [find_folds(path) for path in weights]
    assert [folds.held_out for folds in divided] == [1, 2] and divided[0].ids == divided[1].ids
    alone = reproduce(experiment, Options(tmp_path, held_out=(2,), quick=True))[0]
    for name in ("vuola-unet-gentle-plain", "mlp-unet-128"):
        assert run(name, "--dataset", shipped_data(), "--weights", weights[1], "--output", tmp_path / name) == 0
        table = pd.read_csv(tmp_path / name / CSV_FILE)
        assert (table["measured_on"] == "fold 2 of 2, which the weights' training held out").all()
        assert table["images"][0] == 1 and table["measured"][0] == pytest.approx(alone.measured, abs=1e-6)
    capsys.readouterr()
    assert run("mlp-unet-128", "--weights", weights[1], "--fold=2", "--output", tmp_path / "other") == 1
    assert "--fold is for trainings" in capsys.readouterr().err


def test_the_ensemble_is_scored_on_a_test_set_by_the_networks_of_all_folds(untrained, tmp_path, monkeypatch):
    pytest.importorskip("lightgbm", exc_type=OSError)
    # What is found by brightness is predicted to be so bad that none of it would stay.
    everything = replace(PRESETS["vuola"], settings={**PRESETS["vuola"].settings, "THRESHOLD": 0.0})
    monkeypatch.setitem(PRESETS, "vuola", everything)
    together = []
    monkeypatch.setattr(runner, "Joint", lambda models: together.append(len(models)) or models[0])
    experiment = quick(find_experiment("vuola-ensemble"))
    rows = reproduce(experiment, Options(tmp_path, test=shipped_data(), test_subset="val", quick=True))
    assert together == [2, 2], "two members of two folds"
    by_figure = {(row.metric, row.part): row for row in rows}
    assert by_figure["mAP", ""].images == 2 and 0 <= by_figure["mAP", ""].measured <= 1
    assert {row.measured_on for row in rows} == {f"{shipped_data()} val"}
    shares = [by_figure[f"picked_{model}", ""].measured for model in ("unet", "mask_rcnn")]
    assert sum(shares) == pytest.approx(1)
    ids = {path.stem for path in (tmp_path / "vuola-ensemble").glob("*/labels/*.png")}
    assert len(ids) == 2 and ids <= set(VAL_IMAGE_IDS)


def test_an_ensemble_of_members_that_find_nothing_is_reported(untrained, tmp_path, capsys):
    pytest.importorskip("lightgbm", exc_type=OSError)
    untrained(lambda image: (np.zeros(image.shape[:2], np.int32), np.zeros(0, np.float32)))
    assert run("vuola-ensemble", "--quick", "--output", tmp_path / "quick") == 0
    table = pd.read_csv(tmp_path / "quick" / CSV_FILE)
    assert table["measured"].isna().all() and (table["images"] == 0).all()
    assert table["measured_on"].str.contains("no predicted mask to learn from").all()
    assert "vuola-ensemble on nothing (There is no predicted mask" in capsys.readouterr().out
    with pytest.raises(ValueError, match="vuola-ensemble: There is no predicted mask"):
        reproduce(quick(find_experiment("vuola-ensemble")), Options(tmp_path / "full"))
    assert not (tmp_path / "full" / CSV_FILE).exists()


def test_views_belong_to_the_model_that_is_scored_alone():
    experiment = find_experiment("vuola-mask-rcnn-gentle-resnet50")
    assert len(experiment.inference_config().make_views()) == 12
    assert len(experiment.inference_config({"TEST_TIME_SCALES": (1.0,)}).make_views()) == 4
    assert len(quick(experiment).inference_config().make_views()) == 4
    recipe = experiment.recipe(experiment.trainings[0])
    assert not [name for name in recipe.settings if name.startswith("TEST_TIME")]


def test_images_are_mixed_in_training_alone(tmp_path, monkeypatch):
    class Stop(Exception):
        pass

    def look(train, val, *_):
        assert train.mixing.colour_transfer == 0.5 and val.mixing is None
        raise Stop

    monkeypatch.setattr(UNetModel, "_trainer", lambda _: look)
    with pytest.raises(Stop):
        reproduce(quick(find_experiment("vuola-unet-gentle-plain")), Options(tmp_path))


def quick_scores(name, output):
    """Scores of a quick run by name, those of all images or of part A; of several runs, the last one's."""
    assert run(name, "--quick", "--output", output) == 0
    table = pd.read_csv(output / CSV_FILE).fillna({"part": ""})
    assert (table["quick"] == "yes").all()
    measured = table[table["part"].isin(["", "A"])].set_index("metric")["measured"]
    return measured[~measured.index.duplicated(keep="last")]


def test_a_quick_mask_rcnn_finds_nuclei(tmp_path, capsys):
    assert quick_scores("zhang-final", tmp_path)["mAP"] > 0.6
    assert "zhang-final on " in capsys.readouterr().out


def test_a_quick_run_finds_nuclei_unless_its_post_processing_is_broken(tmp_path, monkeypatch, capsys):
    assert quick_scores("mlp-unet-128", tmp_path)["mAP"] > 0.4
    assert "mlp-unet-128 on " in capsys.readouterr().out
    monkeypatch.setattr("unet.postprocess.label_components", lambda mask: (np.zeros(mask.shape, np.int32), 0))
    # The training in the folder is finished, and its weights are scored again.
    assert quick_scores("mlp-unet-128", tmp_path)["mAP"] < 0.1


def test_a_quick_mask_rcnn_finds_nuclei_of_both_parts_of_glas(tmp_path, eager):
    scores = quick_scores("lehmann-mask-rcnn", tmp_path)
    assert scores["object_F1"] > 0.7 and scores["object_Dice"] > 0.75 and scores.drop("BCE").notna().all()


def test_lists_and_descriptions_are_printed(capsys):
    assert run("--list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("mlp-" in line for line in lines) == 7
    assert run("--list", "zhang-final") == 0
    assert "0.401" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "causes"),
    [
        ((), ("--list",)),
        (("zhang-finish",), ("zhang-finish", "zhang-final")),
        (("lehmann-unet", "--dataset", "{tmp}/gone"), ("gone", "Warwick", "https://warwick.ac.uk")),
        (("mlp-unet-128", "--dataset", "{tmp}/gone"), ("gone", "stage1_train", "bbbc.broadinstitute.org")),
        (("mlp-unet-128", "--weights", "{tmp}/gone.h5"), ("gone.h5",)),
        (("zhang-final", f"--dataset={shipped_data()}", "--classes={tmp}/gone.csv"), ("gone.csv", "no such file")),
        (("mlp-unet-128", "--set", "CLAHEE=True"), ("CLAHEE", "CLAHE")),
        (("mlp-unet-128", "--fold=1", "--quick"), ("mlp-unet-128", "no folds")),
        (("zhang-fcn8s", "--fold=11", "--dataset", str(shipped_data())), ("folds 1 to 10", "11")),
        (("zhang-fcn8s", "--weights", __file__), ("10 folds", "--test")),
        (("vuola-ensemble", "--quick", "--fold=1"), ("vuola-ensemble", "no place")),
    ],
)
def test_what_cannot_be_done_is_named_before_anything_is_written(tmp_path, capsys, arguments, causes):
    output = tmp_path / "out"
    assert run(*(str(part).format(tmp=tmp_path) for part in arguments), "--output", output) == 1
    message = capsys.readouterr().err
    assert all(cause in message for cause in causes), message
    assert not list(output.rglob("*.h5")) and not (output / CSV_FILE).exists()
