"""An ensemble with its members' models: fitted, saved, and loaded with the members' weights."""

import json
import logging
import shutil
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from nucleus import cli
from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.folds import Folds
from nucleus.datasets.provenance import as_json
from nucleus.ensemble import boosting, fitting
from nucleus.ensemble.ensemble_model import EnsembleModel
from nucleus.ensemble.fingerprints import exchanged, fingerprints
from nucleus.ensemble.running import EnsemblePredictions
from nucleus.evaluation.evaluation import evaluate
from nucleus.evaluation.scores import average_precision
from nucleus.images.writing import write_labels
from nucleus.models.limits import Limit, report_limit
from nucleus.models.loading import load_model
from nucleus.models.mask_rcnn import MaskRCNNModel
from nucleus.models.tta import TestTimeAugmentation
from nucleus.models.unet import UNetModel
from nucleus.models.views import View
from nucleus.prediction.folders import PredictionFolder
from nucleus.prediction.manifest import Manifest


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, scene):
    """A data set of eight scenes, and by the bytes of an image what the members find in it."""
    root, found = tmp_path_factory.mktemp("scenes"), {}
    (root / "images").mkdir()
    for seed in range(8):
        image, truth, predictions = scene(seed)
        cv2.imwrite(str(root / "images" / f"{seed}.png"), image[..., ::-1])
        write_labels(root / "labels" / f"{seed}.png", truth)
        found[image.tobytes()] = predictions
    dataset = NucleusDataset()
    dataset.load_nucleus(root, "all")
    dataset.prepare()
    return dataset, found


@pytest.fixture
def members(scenes, fake_model):
    """Models of both members, good at big nuclei and at small ones."""
    _, found = scenes
    return {name: fake_model(lambda image, name=name: found[image.tobytes()][name]) for name in ("big", "small")}


@pytest.fixture
def quick_trees(lightgbm, monkeypatch):
    """Grows the first of the averaged models alone."""
    monkeypatch.setattr(fitting, "grow", lambda *args: boosting.grow(*args[:2], args[2][:1], *args[3:]))


def test_fitting_teaches_which_members_nuclei_are_good(scenes, members, quick_trees):
    dataset, _ = scenes
    model = EnsembleModel(members)
    with pytest.raises(ValueError, match="not fitted yet"):
        model.predict(dataset.load_image(0))
    history = model.fit(dataset, None)
    validation = model.cross_validation
    assert model.ensemble.members == ("big", "small") and len(validation.fitted.quality) == 8
    assert (history.step, len(history), sum(history.logs["images"])) == ("fold", 4, 8)
    out_of_fold = validation.report.scores.loc[("all", "ensemble"), "mAP"]
    assert np.average(history.logs["mAP"], weights=history.logs["images"]) == pytest.approx(out_of_fold)
    assert model.ensemble.about["scores"] == validation.report.values()["scores"]
    scores = {name: evaluate(each, dataset, progress=False)["mAP"].mean() for name, each in members.items()}
    assert evaluate(model, dataset, progress=False)["mAP"].mean() > max(scores.values()) + 0.2


def test_what_is_not_fitted_is_not_saved(members, tmp_path):
    with pytest.raises(ValueError, match="not fitted yet"):
        EnsembleModel(members).save(tmp_path / "ensemble.json")
    assert not list(tmp_path.iterdir())


def test_without_weights_of_its_members_a_file_is_no_model_by_itself(members, fitted, scenes, tmp_path):
    path = tmp_path / "ensemble.json"
    EnsembleModel(members, fitted.ensemble).save(path)
    with pytest.raises(ValueError, match=r"ensemble\.json: names no weights of its members \(big, small\)"):
        load_model(path)


def test_a_file_brings_its_members_along_wherever_both_move(tiny_weights, fitted, tmp_path, eager):
    place = tmp_path / "here"
    files = {"big": place / "weights" / "unet.h5", "small": place / "weights" / "mask_rcnn.h5"}
    for file in files.values():
        load_model(tiny_weights[file.stem], settings={"TEST_TIME_AUGMENTATION": "flips"}).save(file)
    model = EnsembleModel({name: load_model(file) for name, file in files.items()}, fitted.ensemble, files)
    model.save(place / "results" / "ensemble.json")
    image = cv2.GaussianBlur(np.random.default_rng(5).integers(0, 256, (60, 70, 3), np.uint8), (0, 0), 3)
    expected = model.predict(image)[0]

    shutil.move(place, tmp_path / "there")
    again = load_model(tmp_path / "there" / "results" / "ensemble.json")
    views = [member.model for member in again.members.values()]
    assert type(again) is EnsembleModel and all(type(one) is TestTimeAugmentation for one in views)
    assert [type(one.model) for one in views] == [UNetModel, MaskRCNNModel]
    for one, other in zip(again.predict(image)[0], expected, strict=True):
        np.testing.assert_array_equal(one, other)
    again.save(tmp_path / "there" / "ensemble.json")
    assert load_model(tmp_path / "there" / "ensemble.json").ensemble.weights == {
        "big": "weights/unet.h5",
        "small": "weights/mask_rcnn.h5",
    }


def warned_of(caplog):
    return [text.partition(":")[0] for text in caplog.messages if "is another model than" in text]


def test_other_weights_under_a_members_name_are_warned_of(tiny_weights, fitted, tmp_path, caplog):
    """Trees that learned one model's mistakes say nothing on another's: the scores would be wrong without a word."""
    files = {"big": tmp_path / "one.h5", "small": tmp_path / "two.h5"}
    for file, kind in zip(files.values(), ("unet", "mask_rcnn"), strict=True):
        load_model(tiny_weights[kind]).save(file)
    members = {name: load_model(file) for name, file in files.items()}
    about = {**fitted.ensemble.about, "fingerprints": fingerprints(members)}
    path = tmp_path / "ensemble.json"
    EnsembleModel(members, replace(fitted.ensemble, about=about), files).save(path)
    load_model(path)
    load_model(files["big"], settings={"TEST_TIME_AUGMENTATION": "flips", "TILE_SIZE": 0}).save(files["big"])
    load_model(path)
    assert not warned_of(caplog), "views and tiles are not the model"

    network = members["big"].model.network.keras_model
    network.set_weights([weight + 1e-3 for weight in network.get_weights()])
    members["big"].save(files["big"])
    load_model(path)
    assert warned_of(caplog) == ["big"]


def test_a_folder_is_known_by_the_model_in_its_manifest(tmp_path):
    model = load_model("classical/otsu")

    def folder(name, *descriptions):
        folders = [tmp_path / f"{name}{number}" for number in range(len(descriptions))]
        for each, description in zip(folders, descriptions, strict=True):
            (each / "labels").mkdir(parents=True)
            if description is not None:
                Manifest(as_json({"model": description}), "complete").write(each)
        return PredictionFolder(folders)

    own, other = model.describe(), load_model("classical/watershed").describe()
    noted = fingerprints({"model": model, "one": folder("a", own), "parts": folder("b", own, own)})
    assert len(noted) == 3 and len(set(noted.values())) == 1, "a model is the same that runs or has run"
    unknown = {"folds": folder("c", own, other), "foreign": folder("d", None), "half": folder("e", own, None)}
    assert fingerprints(unknown) == {}
    given = {"one": folder("f", other), "parts": folder("g", own), "model": folder("h", None)}
    assert exchanged(noted, given) == ["one"]


def test_settings_and_missing_members_are_named(tiny_weights, fitted, members, tmp_path):
    path, files = tmp_path / "ensemble.json", {"big": tiny_weights["unet"], "small": tmp_path / "gone.h5"}
    EnsembleModel(members, fitted.ensemble, files).save(path)
    with pytest.raises(ValueError, match=r"gone\.h5: no such weights file"):
        load_model(path)
    with pytest.raises(ValueError, match="CLAHE is a setting of an ensemble's members, not of the ensemble"):
        load_model(path, settings={"CLAHE": True})
    with pytest.raises(ValueError, match=r"ensemble\.json: has members of its own. Received: MEMBERS=unet"):
        load_model(path, settings={"MEMBERS": "unet"})


METHODS = "classical/otsu,classical/watershed"


def test_an_ensemble_has_the_life_of_every_model(scenes, quick_trees, tmp_path):
    """Made by its name, fitted, saved, loaded and run by a command, without a word that other models lack."""
    dataset, _ = scenes
    settings = {"MEMBERS": METHODS, "FEATURES": "shape,score", "LEAST_VISIBLE": 0.2}
    model = load_model("ensemble", settings=settings)
    assert list(model.members) == METHODS.split(",")
    image = dataset.load_image(0)
    with pytest.raises(ValueError, match="not fitted yet"):
        model.predict(image)
    model.fit(dataset, None)
    model.save(tmp_path / "ensemble.json")

    again = load_model(tmp_path / "ensemble.json")
    assert again.ensemble.fingerprints == fingerprints(again.members) and set(again.members) == set(METHODS.split(","))
    assert again.config.groups == ("shape", "score") and again.config.LEAST_VISIBLE == 0.2
    expected = model.predict(image)[0]
    for one, other in zip(again.predict(image)[0], expected, strict=True):
        np.testing.assert_array_equal(one, other)
    for options in ((), ("--model=ensemble",)):
        output = tmp_path / f"out{len(options)}"
        arguments = [dataset.image_info[0]["path"], f"--weights={tmp_path / 'ensemble.json'}", f"--output={output}"]
        assert cli.main(["detect", *arguments, *options]) == 0
        assert len(pd.read_csv(output / "nuclei.csv")) == len(expected.scores) > 0
    arguments = [f"--weights={tmp_path / 'ensemble.json'}", "--set=THRESHOLD=1", f"--output={tmp_path / 'few'}"]
    assert cli.main(["detect", dataset.image_info[0]["path"], *arguments]) == 0
    found = pd.read_csv(tmp_path / "few" / "nuclei.csv")
    assert len(found) < len(expected.scores) and (found["score"] == 1).all(), "a setting of the ensemble takes effect"


def test_a_changed_setting_is_in_the_file(scenes, quick_trees, tmp_path):
    dataset, _ = scenes
    model = load_model("ensemble/vuola", settings={"MEMBERS": METHODS, "FOLDS": 2, "TEST_TIME_VOTES": 0.75})
    model.fit(dataset, None)
    model.save(tmp_path / "ensemble.json")
    assert "settings" not in json.loads((tmp_path / "ensemble.json").read_text())["rules"]
    again = load_model(tmp_path / "ensemble.json")
    changed = {name: value for name, value in again.config.to_dict().items() if name != "MEMBERS"}
    assert changed == {name: value for name, value in model.config.to_dict().items() if name != "MEMBERS"}
    flipped = load_model(tmp_path / "ensemble.json", settings={"TEST_TIME_AUGMENTATION": "flips"})
    assert type(flipped) is TestTimeAugmentation and type(flipped.model) is EnsembleModel


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("ensemble/nothing", {}, "ensemble has no preset 'nothing'. Known: all-features, vuola"),
        ("ensemble", {"MEMBERS": "classical,classical"}, "MEMBERS: two are called 'classical'"),
        ("ensemble", {"MEMBERS": " "}, "MEMBERS needs one model at least"),
        ("ensemble", {"MEMBERS": "gone.h5"}, r"gone\.h5: no such weights file"),
        ("ensemble", {"FEATURES": "colour"}, "FEATURES: Expected groups of features among shape"),
        ("ensemble", {"FOLDS": 2}, "FOLDS must be at least 3"),
        ("ensemble", {"THRESHOLD": 2.0}, "THRESHOLD must be from 0 to 1"),
    ],
)
def test_settings_that_cannot_be_used_are_named(source, settings, message):
    with pytest.raises(ValueError, match=message):
        load_model(source, settings=settings)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("detect", "--model=ensemble"), "There is no shipped ensemble"),
        (("detect", "--model=ensemble", "--weights=last"), "ensemble has no weights"),
        (("tune", "--weights={file}"), "ensemble has no thresholds to tune"),
        (("compare", "--member=both=ensemble"), "both: an ensemble is made of the members that learn"),
    ],
)
def test_commands_that_cannot_use_an_ensemble_say_so(arguments, message, fitted, members, tmp_path, capsys):
    file = tmp_path / "ensemble.json"
    EnsembleModel(members, fitted.ensemble).save(file)
    arguments = [argument.format(file=file) for argument in arguments]
    data = [] if arguments[0] == "compare" else [f"--dataset={tmp_path}"]
    assert cli.main([*arguments, *data, *(["--quick"] if not data else []), f"--output={tmp_path / 'out'}"]) == 1
    assert message in capsys.readouterr().err


def test_folds_that_are_given_divide_the_images(scenes, members, quick_trees):
    dataset, _ = scenes
    folds = Folds((("0", "1", "2", "3"), ("4", "5"), ("6", "7")))
    history = EnsembleModel(members, folds=folds).fit(dataset, None)
    assert history.logs["images"] == [4, 2, 2]


def test_a_limit_that_a_member_reaches_is_warned_of_with_the_images_name(scenes, fake_model, quick_trees, caplog):
    """In fitting and in scoring: a member that had no room for nuclei teaches the ensemble that they are absent."""
    dataset, found = scenes

    def limited(image):
        report_limit(Limit("DETECTION_MAX_INSTANCES", 7, image.shape[:2]))
        return found[image.tobytes()]["big"]

    model = EnsembleModel({"big": fake_model(limited)})
    for use in (lambda: model.fit(dataset, None), lambda: evaluate(model, dataset, progress=False)):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "nucleus.models.limits"):
            use()
        warned = [text.partition(": DETECTION_MAX_INSTANCES")[0] for text in caplog.messages if "MAX_INST" in text]
        assert warned == [info["path"] for info in dataset.image_info]


def test_folders_of_predictions_need_the_images_id(scenes, fitted, tmp_path):
    dataset, found = scenes
    image = dataset.load_image(0)
    for name, (labels, _) in found[image.tobytes()].items():
        write_labels(tmp_path / name / "0.png", labels)
    model = EnsembleModel({name: PredictionFolder(tmp_path / name) for name in ("big", "small")}, fitted.ensemble)
    with pytest.raises(ValueError, match="big, small: predictions in folders belong to images of a data set"):
        model.predict(image)
    with pytest.raises(ValueError, match="known after fit"):
        EnsemblePredictions(model, out_of_fold=True)
    predictions = EnsemblePredictions(model)
    labels, scores = predictions.read(dataset, 0)
    assert len(scores) == labels.max() == len(*predictions.picks.values()) == predictions.shares()["nuclei"].sum() == 16


def test_an_ensemble_may_be_shown_views_too(fitted, scene, fake_model):
    """Its nuclei vote, as those of any model that has no probabilities."""
    image, _, predictions = scene(42)
    table = {image.tobytes(): predictions}
    table[np.ascontiguousarray(image[:, ::-1]).tobytes()] = {
        name: (np.ascontiguousarray(labels[:, ::-1]), scores) for name, (labels, scores) in predictions.items()
    }
    names = ("big", "small")
    members = {name: fake_model(lambda seen, name=name: table[seen.tobytes()][name]) for name in names}
    model = EnsembleModel(members, fitted.ensemble)
    ((labels, scores),) = TestTimeAugmentation(model, [View(), View(mirrored=True)]).predict(image)
    assert len(table) == 2 and len(scores) == labels.max()
    assert average_precision(model.predict(image)[0].labels, labels) > 0.95
