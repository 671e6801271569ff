"""`nucleus ensemble fit` and `predict`, from folders of predictions to files."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from nucleus.cli import main
from nucleus.datasets.folds import Folds
from nucleus.ensemble import boosting, fitting
from nucleus.ensemble.fitted import read_ensemble
from nucleus.evaluation.scores import average_precision
from nucleus.images.reading import read_labels
from nucleus.images.writing import write_labels
from nucleus.models.loading import load_model
from nucleus.models.recipe import Recipe
from nucleus.models.unet import UNetModel


@pytest.fixture(scope="module")
def project(tmp_path_factory, scene):
    """A data set of eight scenes with label images, and a folder of label images of each member."""
    root = tmp_path_factory.mktemp("project")
    for seed in range(8):
        image, truth, predictions = scene(seed)
        (root / "data" / "images").mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "data" / "images" / f"{seed}.png"), image)
        write_labels(root / "data" / "labels" / f"{seed}.png", truth)
        for name, (labels, _) in predictions.items():
            write_labels(root / name / f"{seed}.png", labels)
    return root


@pytest.fixture(scope="module")
def members(project):
    return ["--member", f"big={project / 'big'}", "--member", f"small={project / 'small'}"]


@pytest.fixture(scope="module")
def fitted_file(project, members, lightgbm):
    """The file of a fit, and what else it left, made once."""
    path, folder = project / "ensemble.json", project / "out_of_fold"
    data = [f"--dataset={project / 'data'}", "--subset=all", "--folds=3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "grow", lambda *args: boosting.grow(*args[:2], args[2][:1], *args[3:]))
        assert main(["ensemble", "fit", *data, *members, f"--output={path}", f"--predictions={folder}"]) == 0
    return path


def test_fitting_writes_the_ensemble_with_its_figures_and_out_of_fold_nuclei(project, fitted_file):
    ensemble = read_ensemble(fitted_file)
    assert ensemble.members == ("big", "small") and ensemble.about["images"] == 8 and ensemble.about["folds"] == 3
    scores = {row["method"]: row["mAP"] for row in ensemble.about["scores"]}
    truth = [read_labels(project / "data" / "labels" / f"{seed}.png") for seed in range(8)]
    found = [read_labels(project / "out_of_fold" / "labels" / f"{seed}.png") for seed in range(8)]
    expected = np.mean([average_precision(*pair) for pair in zip(truth, found, strict=True)])
    assert scores["ensemble"] == pytest.approx(expected) and scores["ensemble"] > max(scores["big"], scores["small"])
    picks = pd.read_csv(project / "out_of_fold" / "picks.csv")
    assert picks["member"].value_counts().to_dict() == {row["member"]: row["nuclei"] for row in ensemble.about["picks"]}


def test_predicting_writes_what_detect_writes_and_who_was_picked(project, fitted_file, members, tmp_path, capsys):
    output = tmp_path / "found"
    images = [str(project / "data" / "images" / f"{seed}.png") for seed in (0, 1)]
    assert main(["ensemble", "predict", *images, f"--ensemble={fitted_file}", *members, f"--output={output}"]) == 0
    told = capsys.readouterr().out
    names = {"labels", "overlays", "nuclei.csv", "images.csv", "submission.csv", "picks.csv"}
    assert {path.name for path in output.iterdir()} == {*names, "manifest.json", ".nucleus"}
    picks, nuclei = pd.read_csv(output / "picks.csv"), pd.read_csv(output / "nuclei.csv")
    assert (picks["label"] == nuclei["label"]).all() and (picks["ImageId"] == nuclei["ImageId"]).all()
    assert ((nuclei["area"] > 100) == (picks["member"] == "big")).all()
    assert nuclei["score"].between(0.5, 1).all()
    big = (nuclei["area"] > 100).sum()
    assert "2 images, 32 nuclei" in told and f"Picked: big {big} ({big / 32:.0%}), small {32 - big}" in told


def test_workers_fit_and_predict_what_one_process_does(project, lightgbm, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs the extra cluster")
    monkeypatch.setattr(fitting, "grow", lambda *args: boosting.grow(*args[:2], args[2][:1], *args[3:]))
    load_model("classical/otsu").save(tmp_path / "otsu.json")
    given = ["--member", f"big={project / 'big'}", "--member", f"otsu={tmp_path / 'otsu.json'}"]
    data = [f"--dataset={project / 'data'}", "--subset=all"]
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster:
        workers = [f"--scheduler={cluster.scheduler_address}"]
        for folder, more in (("one", []), ("several", workers)):
            fitted, found = tmp_path / folder / "ensemble.json", tmp_path / folder / "found"
            fitted.parent.mkdir()
            assert main(["ensemble", "fit", *data, *given, "--folds=3", f"--output={fitted}", *more]) == 0
            assert main(["ensemble", "predict", *data, f"--ensemble={fitted}", *given, f"--output={found}", *more]) == 0
    for name in ("ensemble.json", "found/picks.csv", "found/nuclei.csv", "found/manifest.json", "found/labels/3.png"):
        assert (tmp_path / "several" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert set(pd.read_csv(tmp_path / "several" / "found" / "picks.csv")["member"]) == {"big", "otsu"}


def test_an_image_that_a_member_lacks_fails_and_the_others_go_on(project, fitted_file, members, tmp_path, capsys):
    strange = tmp_path / "strange.png"
    cv2.imwrite(str(strange), np.zeros((8, 8, 3), np.uint8))
    images = [str(strange), str(project / "data" / "images" / "2.png")]
    status = main(["ensemble", "predict", *images, f"--ensemble={fitted_file}", *members, f"--output={tmp_path / 'o'}"])
    told = capsys.readouterr()
    assert status == 1 and "1 image, 16 nuclei" in told.out
    assert "strange.png: " in told.err and "no label image strange.png" in told.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--member=small=SMALL"], "fitted with big, small. Received: small"),
        (["--member=big=BIG", "--member=small=absent"], "absent: there is no such folder"),
        (["--member=big=BIG", "--member=small=FILE", "--member=small=SMALL"], "one weights file or folders"),
    ],
)
def test_wrong_members_are_named(arguments, message, project, fitted_file, tmp_path, capsys):
    places = {"BIG": str(project / "big"), "SMALL": str(project / "small"), "FILE": str(fitted_file)}
    for name, path in places.items():
        arguments = [argument.replace(name, path) for argument in arguments]
    image = str(project / "data" / "images" / "0.png")
    output = tmp_path / "o"
    assert main(["ensemble", "predict", image, f"--ensemble={fitted_file}", *arguments, f"--output={output}"]) == 1
    assert message in capsys.readouterr().err and not output.exists()


def test_a_member_of_another_size_is_named_and_nothing_is_written(project, members, tmp_path, capsys):
    write_labels(tmp_path / "cut" / "0.png", np.zeros((9, 9), np.int32))
    data = [f"--dataset={project / 'data'}", "--subset=all", "--member", f"cut={tmp_path / 'cut'}"]
    assert main(["ensemble", "fit", *data, *members, f"--output={tmp_path / 'e.json'}"]) == 1
    error = capsys.readouterr().err
    assert "0.png: the label image has shape (9, 9), its image 0 has (96, 96)" in error
    assert not (tmp_path / "e.json").exists()


@pytest.mark.parametrize("wrong", ["--member=big", "--threshold=1.5", "--threshold=x", "--threads=0"])
def test_wrong_usage_ends_with_status_2(wrong, tmp_path):
    with pytest.raises(SystemExit, match="2"):
        main(["ensemble", "fit", "--member=a=b", f"--output={tmp_path / 'e.json'}", wrong])


def test_features_can_be_chosen_and_the_file_says_which(project, members, lightgbm, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "grow", lambda *args: boosting.grow(*args[:2], args[2][:1], *args[3:]))
    path = tmp_path / "shape.json"
    data = [f"--dataset={project / 'data'}", "--subset=all", "--folds=2", "--threshold=0.3", "--features=shape,member"]
    assert main(["ensemble", "fit", *data, *members, f"--output={path}"]) == 0
    content = json.loads(path.read_text())
    assert content["groups"] == ["shape", "member"] and content["features"][-2:] == ["from_big", "from_small"]
    assert content["rules"]["threshold"] == 0.3


def test_weights_that_learned_from_the_images_are_refused(project, members, tmp_path, lightgbm, capsys):
    weights = tmp_path / "mask_rcnn_nucleus_0001.h5"
    weights.touch()
    Folds((("0", "1", "elsewhere"), ("2", "3")), held_out=2).save(tmp_path / "folds.json")
    data = [f"--dataset={project / 'data'}", "--subset=all", f"--output={tmp_path / 'ensemble.json'}"]
    assert main(["ensemble", "fit", *data, *members, f"--member=own={weights}"]) == 1
    message = capsys.readouterr().err
    assert f"{weights}: was trained on 2 of these 8 images" in message and "held out fold 2 of 2" in message
    assert not (tmp_path / "ensemble.json").exists()


@pytest.fixture
def run_weights(monkeypatch, tmp_path, fake_model):
    """A weights file that loads as a threshold, what it was configured to, and the shapes it was shown."""
    noted = SimpleNamespace(weights=tmp_path / "unet_nucleus_best.h5", configs=[], shown=[])
    noted.weights.touch()
    Recipe("small", {"MASK_THRESHOLD": "0.4"}, "unet").save_beside(noted.weights)

    def find(image):
        noted.shown.append(image.copy())
        labels, count = ndimage.label(image.mean(axis=2) > 127)
        return labels.astype(np.int32), np.full(count, 0.8, np.float32)

    def load(weights, recipe, config, model_dir):
        assert weights == noted.weights
        noted.configs.append(config)
        return fake_model(find, config)

    monkeypatch.setattr(UNetModel, "load", load)
    return noted


@pytest.mark.parametrize(("options", "views"), [((), 1), (("--tta=flips",), 4), (("--tta=none",), 1)])
def test_weights_are_run_in_the_views_asked_for_and_folders_stay(
    options, views, project, fitted_file, run_weights, tmp_path, capsys
):
    image = project / "data" / "images" / "0.png"
    members = ["--member", f"big={project / 'big'}", "--member", f"small={run_weights.weights}"]
    arguments = [str(image), f"--ensemble={fitted_file}", *members, f"--output={tmp_path / 'o'}", *options]
    assert main(["ensemble", "predict", *arguments]) == 0
    (config,) = run_weights.configs
    assert config.model_kind == "unet" and config.MASK_THRESHOLD == 0.4
    assert ("big: taken as it was predicted" in capsys.readouterr().out) == bool(options)
    pixels = cv2.imread(str(image))[..., ::-1]
    flipped = [pixels, pixels[:, ::-1], pixels[::-1], pixels[::-1, ::-1]][:views]
    assert sorted(shown.tobytes() for shown in run_weights.shown) == sorted(each.tobytes() for each in flipped)


def test_fitting_runs_weights_in_views_too_and_notes_it(
    project, members, run_weights, lightgbm, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(fitting, "grow", lambda *args: boosting.grow(*args[:2], args[2][:1], *args[3:]))
    path = tmp_path / "ensemble.json"
    data = [f"--dataset={project / 'data'}", "--subset=all", "--folds=2", "--threshold=0.3", f"--output={path}"]
    own = ["--member", f"own={run_weights.weights}", "--tta=flips-rotations"]
    assert main(["ensemble", "fit", *data, *members, *own]) == 0
    assert len(run_weights.shown) == 8 * 8
    assert read_ensemble(path).about["TEST_TIME_AUGMENTATION"] == "flips-rotations"
    image = str(project / "data" / "images" / "0.png")
    for views, warned in (("flips-rotations", 0), ("none", 1)):
        caplog.clear()
        arguments = [image, f"--ensemble={path}", *members, *own[:2], f"--tta={views}", f"--output={tmp_path / views}"]
        assert main(["ensemble", "predict", *arguments]) == 0
        assert sum("was fitted to what weights find" in text for text in caplog.messages) == warned
        assert not any("is another model" in text for text in caplog.messages)
    Recipe("small", {"MASK_THRESHOLD": "0.6"}, "unet").save_beside(run_weights.weights)
    assert main(["ensemble", "predict", *arguments, "--overwrite"]) == 0
    assert any(text.startswith("own: is another model than") for text in caplog.messages)


@pytest.mark.parametrize("step", ["fit", "predict"])
def test_views_of_folders_of_predictions_are_refused(step, members, tmp_path, capsys):
    path = tmp_path / "ensemble.json"
    arguments = [f"--output={path}"] if step == "fit" else [f"--ensemble={path}", "image.png"]
    assert main(["ensemble", step, *arguments, *members, "--tta=flips"]) == 1
    message = capsys.readouterr().err
    assert "--tta needs a member that is run" in message and members[1] in message
