"""The classical model on synthetic and on shipped images, good and bad, and its file."""

import json

import cv2
import numpy as np
import pytest

from nucleus import load_model, make_config
from nucleus.datasets.dataset import NucleusDataset, shipped_data
from nucleus.evaluation.evaluation import evaluate
from nucleus.evaluation.scores import average_precision
from nucleus.images.preprocess import Clahe
from nucleus.images.writing import write_labels
from nucleus.models.classical.config import ClassicalConfig
from nucleus.models.classical.model import ClassicalModel
from nucleus.models.classical.presets import PRESETS
from nucleus.models.tta import TestTimeAugmentation
from trainkit.settings import SettingsError

ALL = tuple(PRESETS)


def make_model(preset="watershed", **settings):
    return load_model(f"classical/{preset}", settings=settings)


def found(preset, image, **settings):
    """Predicts, and checks what every answer must be."""
    ((labels, scores),) = make_model(preset, **settings).predict(image)
    assert labels.dtype == np.int32 and labels.shape == image.shape[:2]
    assert scores.dtype == np.float32 and scores.shape == (labels.max(),)
    assert np.array_equal(np.unique(labels[labels > 0]), np.arange(1, len(scores) + 1))
    assert np.all((scores >= 0) & (scores <= 1))
    return labels, scores


@pytest.mark.parametrize("preset", ALL)
@pytest.mark.parametrize(("nucleus", "background"), [(170, 40), (40, 170)])
def test_every_preset_finds_bright_and_dark_nuclei(disks, preset, nucleus, background):
    image, truth = disks(nucleus=nucleus, background=background)
    labels, scores = found(preset, image)
    assert labels.max() == truth.max(), "those that the image's edge cuts among them"
    assert average_precision(truth, labels) > 0.75
    assert scores.min() > 0.7


@pytest.mark.parametrize("preset", ALL)
@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (100, 101), (33, 257)])
def test_one_colour_holds_no_nuclei_whatever_a_gaussian_rounds(preset, shape):
    for value in (0, 1, 25, 100, 200, 254, 255):
        image = np.full((*shape, 3), value, np.uint8)
        for settings in ({}, {"SMOOTHING": 1.0}, {"SMOOTHING": 4.0, "CLASSES": 3}, {"CHANNEL": "haematoxylin"}):
            assert found(preset, image, **settings)[0].max() == 0
    image = np.full((*shape, 3), (200, 25, 101), np.uint8)
    assert found(preset, image, SMOOTHING=1.0, CHANNEL="haematoxylin")[0].max() == 0


def test_one_level_above_the_background_is_enough(disks):
    image, truth = disks(nucleus=26, background=25, noise=0)
    assert average_precision(truth, found("watershed", image, SMOOTHING=1.0, MIN_CONTRAST=0.0)[0]) > 0.7


def test_one_nucleus_and_polarity_by_hand(disks):
    image, truth = disks(circles=((48, 50, 55),))
    labels, _ = found("otsu", image, POLARITY="bright")
    assert labels.max() == 1 and average_precision(truth, labels) == 1
    image, truth = disks(circles=((48, 50, 12),))
    assert average_precision(truth, found("watershed", image)[0]) > 0.7


def test_touching_nuclei_are_one_by_otsu_and_two_by_the_watershed(disks):
    image, truth = disks(circles=((48, 35, 14), (48, 59, 14)))
    assert found("otsu", image)[0].max() == 1
    for preset in ("watershed", "active-contours"):
        labels, _ = found(preset, image)
        assert labels.max() == 2 and average_precision(truth, labels) > 0.7


def test_a_local_threshold_follows_uneven_light(disks):
    image, truth = disks(circles=[(y, x, 6) for y in (15, 48, 80) for x in (15, 50, 85)], nucleus=80, noise=1)
    image += np.linspace(0, 120, image.shape[1], dtype=np.uint8)[:, None]
    local = {"POLARITY": "bright", "LEVEL": -2.0, "LOCAL_OFFSET": 0.1}
    of_all = average_precision(truth, found("otsu", image, POLARITY="bright")[0])
    of_window = average_precision(truth, found("local-threshold", image, **local)[0])
    assert of_all < 0.5 < 0.9 < of_window


@pytest.mark.parametrize("preset", ALL)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 2), (40, 50)])
def test_even_images_have_no_nuclei(preset, shape):
    for level in (0, 77, 255):
        assert found(preset, np.full((*shape, 3), level, np.uint8))[0].max() == 0


@pytest.mark.parametrize("preset", ALL)
def test_noise_has_no_nuclei(preset):
    rng = np.random.default_rng(0)
    for noise in (rng.integers(0, 256, (120, 130, 3)), rng.normal(20, 4, (120, 130, 1)).repeat(3, axis=2).clip(0)):
        assert found(preset, noise.astype(np.uint8))[0].max() == 0
        unguarded = {"MIN_CONTRAST": 0, "MIN_AREA": 0, "OPENING_RADIUS": 0}
        assert found(preset, noise.astype(np.uint8), **unguarded)[0].max() > 0, "it is MIN_CONTRAST that keeps it out"


@pytest.mark.parametrize("settings", [{"CONTOURS": "geodesic"}, {"CLASSES": 3, "OPENING_RADIUS": 2}, {"CLAHE": True}])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2), (20, 20)])
def test_tiny_images_of_anything(settings, shape):
    image = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    for preset in ALL:
        found(preset, image, MIN_AREA=0, MIN_CONTRAST=0, **settings)


def test_clahe_comes_first(shipped_image):
    settings = {"CLAHE_CLIP_LIMIT": 4.0, "CLAHE_TILE_GRID": (4, 4)}
    with_clahe, _ = found("otsu", shipped_image, CLAHE=True, **settings)
    by_hand, _ = found("otsu", Clahe(4.0, (4, 4))(shipped_image), **settings)
    assert np.array_equal(with_clahe, by_hand)
    assert not np.array_equal(with_clahe, found("otsu", shipped_image)[0])


def test_views_vote_with_test_time_augmentation(disks):
    image, truth = disks(nucleus=90, noise=12)
    plain, _ = found("otsu", image)
    voted, scores = found("otsu", image, TEST_TIME_AUGMENTATION="flips", TEST_TIME_SCALES=(1.0, 1.5))
    assert voted.max() == truth.max() and scores.min() > 0.5
    assert average_precision(truth, voted) > 0.7 and not np.array_equal(voted, plain)


@pytest.fixture(scope="module")
def small_shipped():
    """The shipped images of a quarter of a megapixel at most."""
    dataset = NucleusDataset()
    dataset.load_nucleus(shipped_data(), "stage1_train")
    dataset.image_info = [info for info in dataset.image_info if info["modality"] != "brightfield"]
    dataset.prepare()
    return dataset


@pytest.mark.parametrize(("preset", "least"), [("otsu", 0.3), ("watershed", 0.38), ("active-contours", 0.4)])
def test_shipped_images(small_shipped, preset, least):
    scores = evaluate(make_model(preset), small_shipped, progress=False)
    assert scores["mAP"].mean() > least
    assert scores.groupby("modality")["IoU"].mean().min() > 0.5, "dark nuclei are not taken for background"


def test_scores_go_with_quality(small_shipped):
    """Nuclei that match the truth score higher than those that do not."""
    model, good, bad = make_model(), [], []
    for index in small_shipped.image_ids:
        ((labels, scores),) = model.predict(small_shipped.load_image(index))
        truth, _ = small_shipped.load_labels(index)
        for number, score in enumerate(scores, start=1):
            mask = labels == number
            hit = np.bincount(truth[mask])[1:]
            best = hit.argmax() + 1 if hit.size and hit.max() else 0
            iou = hit.max(initial=0) / (mask | (truth == best)).sum() if best else 0
            (good if iou > 0.7 else bad).append(score)
    assert np.mean(good) > np.mean(bad) + 0.05


def test_answers_are_the_same_every_time(shipped_image):
    model = make_model("active-contours")
    first, again, fresh = (m.predict(shipped_image)[0] for m in (model, model, make_model("active-contours")))
    for other in (again, fresh):
        assert np.array_equal(first[0], other[0]) and np.array_equal(first[1], other[1])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHANNEL", "ultraviolet"),
        ("POLARITY", "both"),
        ("CLASSES", 4),
        ("THRESHOLD", "triangle"),
        ("CONTOURS", "snake"),
        ("SEPARATION", "none"),
        ("LOCAL_WINDOW", 50),
        ("LOCAL_WINDOW", 1),
        ("CONTOUR_WINDOW", 2),
        ("NECK", 0.0),
        ("NECK", 1.5),
        ("BALLOON", 2),
        ("SMOOTHING", -1.0),
        ("SMOOTHING", float("nan")),
        ("LEVEL", float("nan")),
        ("ITERATIONS", -1),
        ("EDGE_SIGMA", 0.0),
        ("MIN_AREA", -1),
        ("CLAHE_CLIP_LIMIT", 0.0),
    ],
)
def test_settings_out_of_range(name, value):
    with pytest.raises(SettingsError, match=name):
        ClassicalConfig().update({name: value})


def test_there_is_nothing_to_load_and_nothing_to_train(tmp_path):
    config = make_config("inference", "otsu", model="classical")
    (tmp_path / "w.h5").touch()
    with pytest.raises(ValueError, match=r"classical has no weights\. Received: .*w\.h5"):
        load_model(tmp_path / "w.h5", config)
    with pytest.raises(SettingsError, match="no weights to train"):
        make_config("training", "otsu", model="classical")
    assert load_model(None, config).config is config
    assert ClassicalModel().config.SEPARATION == "watershed"


@pytest.fixture
def tuning_images(tmp_path, disks):
    """A data set of one image whose touching nuclei only a watershed tells apart."""
    image, truth = disks(circles=((48, 35, 14), (48, 59, 14), (15, 15, 8)))
    write_labels(tmp_path / "data" / "labels" / "a.png", truth)
    (tmp_path / "data" / "images").mkdir()
    cv2.imwrite(str(tmp_path / "data" / "images" / "a.png"), image)
    dataset = NucleusDataset()
    dataset.load_nucleus(tmp_path / "data", "all")
    dataset.prepare()
    return dataset


def test_fitting_tunes_the_settings_and_the_file_keeps_them(tuning_images, tmp_path):
    bad = {"LEVEL": 0.99, "NECK": 0.1}
    model = ClassicalModel(preset="watershed", settings={**bad, "SMOOTHING": 0.0})
    image = tuning_images.load_image(0)
    before = evaluate(model, tuning_images, progress=False)["mAP"].mean()
    tried = model.tune(tuning_images, progress=False)
    assert tried.start.settings.items() <= model.config.to_dict().items(), "tuning leaves the model as it is"
    history = model.fit(tuning_images, None)
    after = evaluate(model, tuning_images, progress=False)["mAP"].mean()
    logs = history.logs
    assert history.step == "trial" and len(history) == len(tried.trials)
    assert after == pytest.approx(logs["mAP"][0]) == max(logs["mAP"]) and after > before + 0.1
    assert {name: logs[name][0] for name in tried.best} == tried.best
    assert tried.best.items() <= model.config.to_dict().items()

    model.save(tmp_path / "tuned.json")
    again = load_model(tmp_path / "tuned.json")
    assert again.config.to_dict() == model.config.to_dict()
    np.testing.assert_array_equal(again.predict(image)[0].labels, model.predict(image)[0].labels)


def test_a_file_keeps_what_differs_from_the_preset_wherever_it_is_from(shipped_image, tmp_path):
    config = make_config("inference", "active-contours", {"CLAHE": True, "CLAHE_TILE_GRID": (4, 2)}, "classical")
    for number, model in enumerate((ClassicalModel(config), ClassicalModel(config, "otsu"))):
        model.save(tmp_path / f"{number}.json")
        again = load_model(tmp_path / f"{number}.json")
        assert again.config.to_dict() == config.to_dict()
        np.testing.assert_array_equal(again.predict(shipped_image)[0].labels, model.predict(shipped_image)[0].labels)
    ClassicalModel(preset="otsu").save(tmp_path / "plain.json")
    assert json.loads((tmp_path / "plain.json").read_text()) == {"preset": "otsu", "settings": {}, "model": "classical"}

    other = load_model(tmp_path / "0.json", settings={"TEST_TIME_AUGMENTATION": "flips", "NECK": 0.5})
    assert isinstance(other.model, TestTimeAugmentation) and len(other.model.views) == 4
    assert other.config.to_dict() == {**config.to_dict(), "TEST_TIME_AUGMENTATION": "flips", "NECK": 0.5}
    other.save(tmp_path / "2.json")
    assert load_model(tmp_path / "2.json").config.to_dict() == other.config.to_dict()


def test_a_file_of_another_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model\.h5: the settings of a classical model are saved as \.json"):
        ClassicalModel().save(tmp_path / "model.h5")
    assert not list(tmp_path.iterdir())
