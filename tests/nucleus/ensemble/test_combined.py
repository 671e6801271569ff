"""An ensemble with its members' models: fitted, saved, and loaded with the members' weights."""

import shutil

import cv2
import numpy as np
import pytest

from nucleus.datasets.dataset import NucleusDataset
from nucleus.ensemble.combined import EnsembleModel
from nucleus.evaluation.evaluation import evaluate
from nucleus.evaluation.scores import average_precision
from nucleus.images.writing import write_labels
from nucleus.models.loading import load_model
from nucleus.models.mask_rcnn import MaskRCNNModel
from nucleus.models.tta import TestTimeAugmentation
from nucleus.models.unet import UNetModel
from nucleus.models.views import View


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


def test_fitting_teaches_which_members_nuclei_are_good(scenes, members, quick):
    dataset, _ = scenes
    model = EnsembleModel(members)
    with pytest.raises(ValueError, match="not fitted yet"):
        model.predict(dataset.load_image(0))
    fitted = model.fit(dataset, settings=quick)
    assert model.ensemble is fitted.ensemble and model.ensemble.members == ("big", "small")
    assert len(fitted.quality) == 8
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


def test_settings_and_missing_members_are_named(tiny_weights, fitted, members, tmp_path):
    path, files = tmp_path / "ensemble.json", {"big": tiny_weights["unet"], "small": tmp_path / "gone.h5"}
    EnsembleModel(members, fitted.ensemble, files).save(path)
    with pytest.raises(ValueError, match=r"gone\.h5: no such weights file"):
        load_model(path)
    with pytest.raises(ValueError, match=r"ensemble\.json: an ensemble has no settings of its own"):
        load_model(path, settings={"CLAHE": True})


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
