"""Running experiments: what is trained and measured, what a stopped run goes on with, and what is refused."""

import shutil
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from nucleus import cli
from nucleus.datasets.dataset import VAL_IMAGE_IDS, DatasetError, shipped_data
from nucleus.datasets.folds import find_folds
from nucleus.datasets.layouts.tables import write_modalities
from nucleus.ensemble.config import PRESETS
from nucleus.evaluation.scores import overlaps, score
from nucleus.evaluation.scores.ranking import PUBLISHED
from nucleus.experiments.publications import find_experiment, runner
from nucleus.experiments.publications.experiment import Figure
from nucleus.experiments.publications.images import Images, spread
from nucleus.experiments.publications.quick import quick
from nucleus.experiments.publications.runner import Options, reproduce
from nucleus.experiments.publications.scoring import CrossEntropy, sum_scores
from nucleus.experiments.publications.table import CSV_FILE
from nucleus.experiments.publications.test_sets import require_named
from nucleus.images.labels import drop_small
from nucleus.models.limits import Limit, report_limit
from nucleus.models.unet import UNetModel
from nucleus.prediction.predictions import ModelPredictions


def run(*arguments):
    return cli.main(["reproduce", *map(str, arguments)])


@pytest.fixture
def glas(tmp_path):
    """A folder in the layout of GlaS: every image has a bright square, which is its gland."""
    root = tmp_path / "glas"
    root.mkdir()
    for name in ("train_1", "train_2", "testA_1", "testA_2", "testB_1"):
        image, labels = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
        image[10:30, 10:30], labels[10:30, 10:30] = 200, 1
        if name == "testB_1":
            labels[32:38, 40:50] = 2
        cv2.imwrite(str(root / f"{name}.bmp"), image)
        cv2.imwrite(str(root / f"{name}_anno.bmp"), labels)
    return root


@pytest.fixture
def bright(monkeypatch, threshold_model, tmp_path):
    """Weights of a model that takes what is bright for a nucleus."""
    monkeypatch.setattr(runner, "load_model", lambda *_: threshold_model)
    weights = tmp_path / "bright.h5"
    weights.touch()
    return weights


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


def test_scores_by_modality_are_those_of_its_images(threshold_model):
    source = replace(find_experiment("mlp-unet-128").source, limit=3)
    dataset = Images(source, shipped_data()).load("val")
    assert len({info["modality"] for info in dataset.image_info}) == 3
    chosen = [index for index in dataset.image_ids if dataset.image_info[index]["modality"] == "fluorescence"]
    found = sum_scores(ModelPredictions(threshold_model), dataset, runner.modality_parts)
    pairs = [
        overlaps(dataset.load_labels(i)[0], threshold_model.predict(dataset.load_image(i))[0].labels) for i in chosen
    ]
    assert found["fluorescence"][0].values() == sum(map(score, pairs)).values()
    assert found["histology"][0].values()["images"] == 2 and found[""][0].values()["images"] == 3


def find_nothing(image):
    return np.zeros(image.shape[:2], np.int32), np.zeros(0, np.float32)


def test_cross_entropy_is_the_mean_over_images(fake_model):
    class FakeProbabilities(fake_model):
        """Gives every pixel one probability."""

        def observe(self, images):
            return [[np.full((*image.shape[:2], 1), 0.25, np.float32)] for image in images]

    dataset = Images(find_experiment("mlp-unet-128").source, shipped_data()).load("val")
    unet = FakeProbabilities(find_nothing)
    found = sum_scores(ModelPredictions(unet), dataset, lambda _: [""], unet)[""][1]
    shares = [np.mean(dataset.load_labels(index)[0] > 0) for index in dataset.image_ids]
    expected = np.mean([-share * np.log(0.25) - (1 - share) * np.log(0.75) for share in shares])
    assert isinstance(found, CrossEntropy) and found.mean == pytest.approx(expected)


def test_a_limit_that_is_reached_while_scoring_is_warned_of_with_the_images_name(fake_model, caplog):
    """The score counts as missed what the model had no room for: the reader must learn of it, and of which image."""

    def find(image):
        report_limit(Limit("DETECTION_MAX_INSTANCES", 7, image.shape[:2]))
        return find_nothing(image)

    dataset = Images(replace(find_experiment("mlp-unet-128").source, limit=1), shipped_data()).load("val")
    sum_scores(ModelPredictions(fake_model(find)), dataset, lambda _: [""])
    (message,) = caplog.messages
    assert message.startswith(f"{dataset.image_info[0]['path']}: DETECTION_MAX_INSTANCES=7")


def test_few_images_are_of_many_modalities(tmp_path):
    infos = []
    for number, modality in enumerate("aaabbc"):
        path = tmp_path / f"{number}"
        path.write_bytes(b"x" * (10 - number))
        infos.append({"id": str(number), "path": str(path), "modality": modality})
    assert [info["id"] for info in spread(infos, 3)] == ["2", "4", "5"]
    assert [info["id"] for info in spread(infos, 4)] == ["2", "3", "4", "5"]


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
    untrained(find_nothing)
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

    def look(model, train, val, epochs, callbacks):
        assert train.mixing.colour_transfer == 0.5 and val.mixing is None
        raise Stop

    monkeypatch.setattr(UNetModel, "_train", look)
    with pytest.raises(Stop):
        reproduce(quick(find_experiment("vuola-unet-gentle-plain")), Options(tmp_path))


def quick_scores(name, output):
    """Scores of a quick run by name, those of all images or of part A; of several runs, the last one's."""
    assert run(name, "--quick", "--output", output) == 0
    table = pd.read_csv(output / CSV_FILE).fillna({"part": ""})
    assert (table["quick"] == "yes").all()
    measured = table[table["part"].isin(["", "A"])].set_index("metric")["measured"]
    return measured[~measured.index.duplicated(keep="last")]


# Every family: what each reaches is 0.1 to 0.2 above its floor. Hundreds of steps are worth compiling, one is not.
@pytest.mark.parametrize(("name", "least"), [("mlp-unet-128", 0.4), ("zhang-final", 0.6)])
def test_a_quick_run_finds_nuclei(name, least, tmp_path, capsys):
    assert quick_scores(name, tmp_path)["mAP"] > least
    assert f"{name} on " in capsys.readouterr().out


def test_a_quick_mask_rcnn_finds_nuclei_of_both_parts_of_glas(tmp_path, eager):
    scores = quick_scores("lehmann-mask-rcnn", tmp_path)
    assert scores["object_F1"] > 0.8 and scores["object_Dice"] > 0.75 and scores.drop("BCE").notna().all()


def test_a_quick_run_finds_nuclei_unless_its_post_processing_is_broken(tmp_path, monkeypatch, capsys, eager):
    def nothing(*_, **__):
        return np.zeros((256, 256), np.int32), 0

    assert quick_scores("andrade-xception", tmp_path)["mAP"] > 0.5
    assert "andrade-xception on " in capsys.readouterr().out
    monkeypatch.setattr("unet.postprocess.grow_markers", nothing)
    # The training in the folder is finished, and its weights are scored again.
    assert quick_scores("andrade-xception", tmp_path)["mAP"] < 0.1


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
