"""Fusion of objects with pixels: whose edges, which nuclei, saving, scale and tiles, and models of folds."""

import json

import cv2
import numpy as np
import pytest
import tifffile
from scipy.optimize import minimize

from nucleus import cli
from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.folds import Folds, folds_beside
from nucleus.datasets.layouts.base import DatasetError
from nucleus.ensemble import boosting, fitting
from nucleus.ensemble.fusion import held_out
from nucleus.ensemble.fusion.fused import read_fusion
from nucleus.ensemble.fusion.held_out import models_out_of_fold
from nucleus.ensemble.fusion.logistic import fit_logistic
from nucleus.ensemble.fusion.model import FusionModel
from nucleus.evaluation.evaluation import evaluate
from nucleus.evaluation.scores.overlaps import overlaps
from nucleus.images.labels import bounding_boxes
from nucleus.images.lazy import open_lazy
from nucleus.images.reading import read_labels
from nucleus.images.writing import write_labels
from nucleus.models.large import predict_large
from nucleus.models.loading import load_model
from nucleus.models.pixelwise import PixelwiseModel
from nucleus.models.registry import make_config
from nucleus.models.scale import with_scale

RADIUS = 9
# Values in an image of a nucleus that the pixels model rates high, that it rates low, and of the background.
BRIGHT, FAINT, DARK = 220, 150, 20


def draw(seed):
    """Returns an image of discs, most of them in touching pairs and some of them faint, and the label image."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((120, 120), np.int32)
    rows, columns = np.ogrid[:120, :120]
    image = np.full((120, 120, 3), DARK, np.uint8)
    for y, x in [(y, x) for y in (22, 60, 98) for x in (30, 85)]:
        value = FAINT if rng.random() < 0.2 else BRIGHT
        for shift in (-RADIUS, RADIUS - 1) if x == 30 else (0,):
            inside = ((rows - y) ** 2 + (columns - x - shift) ** 2 <= RADIUS**2) & (labels == 0)
            labels[inside] = labels.max() + 1
            image[inside] = value
    return image, labels


def find_squares(truth):
    """Returns the nuclei as Mask R-CNN might: each on its own, with edges that are wrong, and one that is none."""
    found = np.zeros_like(truth)
    for label, (y1, x1, y2, x2) in enumerate(bounding_boxes(truth), start=1):
        found[y1:y2, x1:x2][found[y1:y2, x1:x2] == 0] = label
    found[2:10, 50:62] = found.max() + 1
    return found, np.linspace(0.99, 0.6, found.max()).astype(np.float32)


class Rated:
    """Network that takes the brightness of a pixel for the probability that it belongs to a nucleus."""

    def predict(self, images):
        probabilities = [cv2.GaussianBlur(image[..., 0], (3, 3), 0).astype(np.float32) / 255 for image in images]
        return [np.stack([each, each, 0 * each], axis=2) for each in probabilities]


class RatingModel(PixelwiseModel):
    """U-Net that merges touching nuclei."""

    def __init__(self, **settings):
        self.network = Rated()
        self.config = make_config("inference", settings={"MASK_THRESHOLD": 0.65, **settings}, model="unet")

    def fit(self, train, val, *, epochs=None, callbacks=()):
        raise NotImplementedError

    def save(self, path):
        raise NotImplementedError


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A data set of six images, and the truth of each by its bytes."""
    root, truths = tmp_path_factory.mktemp("pairs"), {}
    (root / "images").mkdir()
    for seed in range(6):
        image, truth = draw(seed)
        cv2.imwrite(str(root / "images" / f"{seed}.png"), image)
        write_labels(root / "labels" / f"{seed}.png", truth)
        truths[image.tobytes()] = truth
    dataset = NucleusDataset()
    dataset.load_nucleus(root, "all")
    dataset.prepare()
    return dataset, truths


@pytest.fixture(scope="module")
def members(scenes, fake_model):
    _, truths = scenes
    return fake_model(lambda image: find_squares(truths[image.tobytes()])), RatingModel()


@pytest.fixture(scope="module")
def quick_trees(lightgbm):
    """Grows one small model instead of those that are averaged."""
    with pytest.MonkeyPatch.context() as patch:
        few = (boosting.BoostingSettings(0.2, 7, 0.8, 30),)
        patch.setattr(fitting, "grow", lambda *args: boosting.grow(*args[:2], few, *args[3:]))
        yield


@pytest.fixture(scope="module")
def fitted(scenes, members, quick_trees):
    model = FusionModel(*members, config=make_config("inference", settings={"FOLDS": 3}, model="fusion"))
    with pytest.raises(ValueError, match="not fitted yet"):
        model.predict(scenes[0].load_image(0))
    return model, model.fit(scenes[0], None)


def test_the_fusion_takes_edges_from_pixels_and_keeps_touching_nuclei_of_objects_apart(scenes, members, fitted):
    dataset, truths = scenes
    model, history = fitted
    image = dataset.load_image(0)
    truth = truths[image.tobytes()]
    iou = {}
    for name, each in zip(("objects", "pixels", "fusion"), (*members, model), strict=True):
        iou[name] = overlaps(truth, each.predict(image)[0].labels).best_iou
    assert np.sort(iou["pixels"])[:6].max() < 0.6, "it merges pairs"
    assert iou["objects"].max() < 0.85, "its edges are wrong"
    assert iou["fusion"].min() > 0.85 and np.median(iou["fusion"]) > 0.9
    labels, scores = model.predict(image)[0]
    assert labels.max() == truth.max() == len(scores), "the object that is no nucleus is dropped"
    scores = {
        name: evaluate(each, dataset, progress=False)["mAP"].mean() for name, each in zip("op", members, strict=True)
    }
    assert np.mean(history.logs["mAP"]) > max(scores.values()) + 0.2
    assert np.mean(history.logs["objects"]) == pytest.approx(scores["o"])
    assert np.mean(history.logs["pixels"]) == pytest.approx(scores["p"])
    assert (history.step, history.logs["images"]) == ("fold", [2, 2, 2])


def test_a_saved_fusion_finds_the_same_with_the_members_that_its_file_names(scenes, members, fitted, tmp_path):
    model, _ = fitted
    model.files = {"objects": "model:found", "pixels": tmp_path / "rated.h5"}
    model.save(tmp_path / "fusion.json")
    sources = {"found": members[0], tmp_path / "rated.h5": members[1]}
    loaded = FusionModel.load(tmp_path / "fusion.json", sources.__getitem__)
    image = scenes[0].load_image(1)
    for one, other in zip(model.predict(image)[0], loaded.predict(image)[0], strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.describe()["fusion"] == model.describe()["fusion"]
    strict = make_config("inference", settings={"THRESHOLD": 1.0}, model="fusion")
    few = FusionModel.load(tmp_path / "fusion.json", sources.__getitem__, strict).predict(image)[0]
    assert len(few.scores) < len(model.predict(image)[0].scores) and (few.scores == 1).all()
    other = RatingModel(TARGETS="mask-border")
    with pytest.raises(ValueError, match=r"fusion\.json: was fitted with the channels mask, borderless, touching"):
        FusionModel.load(tmp_path / "fusion.json", {**sources, tmp_path / "rated.h5": other}.__getitem__)


def test_another_member_than_that_of_the_fit_is_noticed(members, fitted, caplog):
    fusion = fitted[0].fusion
    FusionModel(*members, fusion)
    assert not caplog.records
    FusionModel(members[0], RatingModel(MARKER_THRESHOLD=0.9), fusion)
    assert "fusion's pixels is another one" in caplog.text


def test_tiles_and_scale_change_no_nucleus(scenes, fitted, fake_model, tmp_path):
    model, _ = fitted
    image = scenes[0].load_image(2)
    whole = model.predict(image)[0].labels
    finder = fake_model(lambda image: find_squares(label_pairs(image)))
    settings = {"TILE_SIZE": 80, "TILE_OVERLAP": 40}

    def fusion(**settings):
        config = make_config("inference", settings=settings, model="fusion")
        return with_scale(FusionModel(finder, RatingModel(), model.fusion, config=config))

    assert overlaps(whole, fusion(**settings).predict(image)[0].labels).best_iou.min() > 0.9
    tifffile.imwrite(tmp_path / "image.tif", image, tile=(64, 64), photometric="rgb")
    with open_lazy(tmp_path / "image.tif") as large:
        predict_large(fusion(**settings), large, tmp_path / "labels.tif", progress=False)
    assert overlaps(whole, read_labels(tmp_path / "labels.tif")).best_iou.min() > 0.9, "read by regions"
    half = fusion(SCALE=0.5)
    found = half.predict(cv2.resize(image, (240, 240), interpolation=cv2.INTER_NEAREST))[0]
    assert found.scale == 0.5 and found.labels.shape == (240, 240)
    assert overlaps(np.kron(whole, np.ones((2, 2), np.int32)), found.labels).best_iou.min() > 0.8


def label_pairs(image):
    """Returns the discs of any part of an image of `draw`: the halves of each bright piece."""
    count, pieces = cv2.connectedComponents((image[..., 0] > (FAINT + DARK) // 2).astype(np.uint8))
    labels = np.zeros(image.shape[:2], np.int32)
    for number in range(1, count):
        columns = np.flatnonzero((pieces == number).any(axis=0))
        wide = np.ptp(columns) > 1.2 * np.ptp(np.flatnonzero((pieces == number).any(axis=1)))
        right = np.arange(image.shape[1]) >= columns.mean() if wide else np.zeros(image.shape[1], bool)
        for half in (~right, right):
            mask = (pieces == number) & half
            labels[mask] = labels.max() + mask.any()
    return labels


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"OBJECTS": " "}, "OBJECTS needs the name or the file of a model"),
        ({"PIXELS": "gone.h5"}, r"gone\.h5: no such weights file"),
        ({"PIXELS": "classical", "OBJECTS": "classical"}, "pixels needs a model that rates pixels"),
        ({"FOLDS": 2}, "FOLDS must be at least 3"),
        ({"THRESHOLD": 2.0}, "THRESHOLD must be from 0 to 1"),
        ({"STRETCH": True}, "STRETCH is a setting of a fusion's members"),
    ],
)
def test_settings_of_a_fusion_that_cannot_be_used_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        load_model("fusion", settings={"OBJECTS": "classical", **settings})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("detect", "--model=fusion", "--dataset=."), "name the shipped one, --weights=nucleus_fusion"),
        (("compare", "--member=both=fusion", "--quick"), "both: a fusion is fitted by itself"),
    ],
)
def test_commands_that_cannot_use_an_unfitted_fusion_say_so(arguments, message, tmp_path, capsys):
    assert cli.main([*arguments, f"--output={tmp_path / 'out'}"]) == 1
    assert message in capsys.readouterr().err


def test_an_image_without_nuclei_has_none(members, fitted, fake_model):
    nothing = fake_model(lambda image: (np.zeros(image.shape[:2], np.int32), np.zeros(0, np.float32)))
    labels, scores = FusionModel(nothing, members[1], fitted[0].fusion).predict(np.full((50, 40, 3), DARK, np.uint8))[0]
    assert labels.shape == (50, 40) and not labels.any() and len(scores) == 0


def test_each_image_of_a_fit_is_looked_at_by_models_that_held_it_out(
    scenes, members, quick_trees, tmp_path, monkeypatch
):
    dataset, _ = scenes
    ids = sorted(info["id"] for info in dataset.image_info)
    pairs = []
    for fold in (1, 2):
        pair = tmp_path / f"m{fold}.h5", tmp_path / f"u{fold}.h5"
        for path in pair:
            path.touch()
            Folds((tuple(ids[:3]), tuple(ids[3:])), held_out=fold).save(folds_beside(path))
        pairs.append(pair)
    loaded = {path: members[number] for pair in pairs for number, path in enumerate(pair)}
    monkeypatch.setattr(held_out, "load_model", loaded.__getitem__)
    models = models_out_of_fold(pairs, ids)
    assert set(models) == set(ids) and models[ids[0]] == members
    with pytest.raises(DatasetError, match=f"3 of these 6 images were held out by none .* such as {ids[3]}"):
        models_out_of_fold(pairs[:1], ids)
    with pytest.raises(DatasetError, match="held out different images"):
        models_out_of_fold([(pairs[0][0], pairs[1][1])], ids)
    blind = RatingModel(MASK_THRESHOLD=1.0)
    config = make_config("inference", settings={"FOLDS": 2, "THRESHOLD": 0.5}, model="fusion")
    model = FusionModel(members[0], blind, config=config, out_of_fold=models)
    history = model.fit(dataset, None)
    assert min(history.logs["pixels"]) > 0, "the blind member was not asked"
    assert model.fusion.about["out_of_fold"] is True


def test_logistic_regression_minimises_the_penalised_loss():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)) * (1, 5, 0) + (0, 2, 7)
    y = (rng.random(300) < 1 / (1 + np.exp(-(x[:, 0] - 0.3 * x[:, 1])))).astype(float)
    weights = rng.random(300)
    model = fit_logistic(("a", "b", "constant"), x, y, weights, ridge=2.0)
    spread = np.sqrt(np.average((x - np.average(x, axis=0, weights=weights)) ** 2, axis=0, weights=weights))

    def loss(values):
        linear = x @ values[:3] + values[3]
        return np.sum(weights * (np.logaddexp(0, linear) - y * linear)) + np.sum((values[:3] * spread) ** 2)

    found = loss([*model.weights, model.bias])
    assert model.weights[2] == 0 and found == pytest.approx(minimize(loss, np.zeros(4)).fun, abs=1e-4)


def test_a_file_with_other_features_is_refused(fitted, tmp_path):
    content = json.loads(fitted[0].fusion.to_json())
    content["pixels"]["both"]["weights"]["colour"] = 1.0
    (tmp_path / "fusion.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"fusion\.json: not a fusion's file \(expected weights of object_distance"):
        read_fusion(tmp_path / "fusion.json")
