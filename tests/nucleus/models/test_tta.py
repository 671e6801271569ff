"""Test-time augmentation of each kind of model, with models whose answers are known."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from nucleus.datasets.dataset import NucleusDataset, shipped_data
from nucleus.evaluation.scores import average_precision
from nucleus.images.labels import bounding_boxes, relabel_sequential
from nucleus.images.preprocess import Clahe
from nucleus.models import unet_tuning
from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.mask_rcnn import MaskRCNNModel
from nucleus.models.pixelwise import mean_probabilities
from nucleus.models.registry import make_config
from nucleus.models.settings import PredictionSettings
from nucleus.models.tta import TestTimeAugmentation, with_views
from nucleus.models.unet import NucleusUNetConfig, UNetModel
from nucleus.models.views import make_views
from nucleus.prediction.detection import detect
from nucleus.prediction.inputs import collect_images
from trainkit.settings import SettingsError
from unet.postprocess import PostprocessSettings, postprocess

EIGHT = make_views("flips-rotations")


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """A shipped label image, not square, with nuclei that touch."""
    dataset = NucleusDataset(cache_dir=tmp_path_factory.mktemp("cache"))
    dataset.load_nucleus(shipped_data(), "val")
    dataset.prepare()
    labels = [dataset.load_labels(index)[0] for index in dataset.image_ids]
    return relabel_sequential(max((part[:150, :201] for part in labels), key=lambda part: len(np.unique(part))))[0]


def coded(labels):
    """An image whose first channel bears the numbers of the nuclei."""
    assert labels.max() < 256
    return np.stack([labels, np.zeros_like(labels), np.full_like(labels, 7)], axis=2).astype(np.uint8)


class Reader(NucleusModel):
    """Finds exactly what `coded` wrote, whichever way the image is turned."""

    def __init__(self, **settings):
        self.config = PredictionSettings().update(settings)

    def fit(self, train, val, *, epochs=None, callbacks=()):
        raise NotImplementedError

    def save(self, path):
        raise NotImplementedError

    def _predict(self, images):
        return [self.find(image) for image in images]

    def find(self, image):
        labels, kept = relabel_sequential(image[..., 0].astype(np.int32))
        return Prediction(labels, (1 / (kept + 2)).astype(np.float32))


class CarelessReader(Reader):
    """Misses some nuclei, fattens others, joins some to the next and sees some that are not there: each time others."""

    def __init__(self, **settings):
        super().__init__(**settings)
        self.rng = np.random.default_rng(0)

    def find(self, image):
        labels = image[..., 0].astype(np.int32)
        for number in range(1, labels.max() + 1):
            chance = self.rng.random()
            if chance < 0.15:
                labels[labels == number] = 0
            elif chance < 0.3:
                grown = cv2.dilate((labels == number).astype(np.uint8), np.ones((9, 9)))
                labels[(grown > 0) & (labels == 0)] = number
            elif chance < 0.4:
                labels[labels == number] = max(1, number - 1)
        y, x = self.rng.integers(0, np.array(labels.shape) - 12)
        labels[y : y + 12, x : x + 12] = 255
        labels, kept = relabel_sequential(labels)
        return Prediction(labels, np.full(len(kept), 0.9, np.float32))


def predict(model, image):
    (prediction,) = model.predict(image)
    return prediction


@pytest.mark.parametrize("symmetries", ["none", "flips", "flips-rotations"])
def test_a_model_that_does_not_mind_finds_the_same(truth, symmetries):
    image = coded(truth)
    expected = predict(Reader(), image)
    assert expected[0].max() > 10
    found = predict(TestTimeAugmentation(Reader(), make_views(symmetries)), image)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype


def test_scales_keep_what_a_model_finds_at_each(threshold_model):
    y, x = np.mgrid[:90, :121]
    discs = [(20, 20, 9), (50, 30, 14), (30, 80, 7), (70, 100, 12)]
    bright = np.any([(y - cy) ** 2 + (x - cx) ** 2 < r**2 for cy, cx, r in discs], axis=0)
    image = np.repeat(bright[..., None] * np.uint8(220), 3, axis=2)
    expected, _ = predict(threshold_model, image)
    found, scores = predict(TestTimeAugmentation(threshold_model, make_views("flips", (0.7, 1, 1.5))), image)
    assert found.max() == len(scores) == 4
    assert average_precision(expected, found) >= 0.9


def test_views_that_err_in_different_places_are_right_together(truth):
    image = coded(truth)
    one = average_precision(truth, predict(CarelessReader(), image)[0])
    together = average_precision(truth, predict(TestTimeAugmentation(CarelessReader(), EIGHT), image)[0])
    assert one < 0.8 and together > one + 0.15


def test_a_view_in_which_nothing_is_found_takes_nothing_away(truth):
    image = coded(truth)

    class Blind(Reader):
        def find(self, view):
            labels, scores = super().find(view)
            return Prediction(labels, scores) if view.shape == image.shape else Prediction(labels * 0, scores[:0])

    labels, scores = predict(TestTimeAugmentation(Blind(), EIGHT), image)
    np.testing.assert_array_equal(labels, truth)
    np.testing.assert_allclose(scores, predict(Reader(), image).scores / 2)
    labels, scores = predict(TestTimeAugmentation(Blind(TEST_TIME_VOTES=0.6), EIGHT), image)
    assert not labels.any() and len(scores) == 0


def test_no_nuclei_in_any_view():
    image = np.zeros((5, 9, 3), np.uint8)
    labels, scores = predict(TestTimeAugmentation(Reader(), make_views("flips-rotations", (1, 0.3))), image)
    assert labels.shape == (5, 9) and not labels.any() and scores.shape == (0,)


class Refusing(Reader):
    """Takes no image that stands upright."""

    def find(self, image):
        if image.shape[0] > image.shape[1]:
            raise ValueError("too high")
        return super().find(image)


def test_a_view_that_the_model_refuses_fails_the_image_and_is_named(write_squares, tmp_path):
    path = write_squares("in/flat.png", (3, 3))
    model = TestTimeAugmentation(Refusing(), EIGHT)
    with pytest.raises(ValueError, match="the view turned by 90 degrees: too high"):
        predict(model, np.zeros((5, 9, 3), np.uint8))
    with pytest.raises(ValueError, match=r"^too high$"):
        predict(model, np.zeros((9, 5, 3), np.uint8))
    dataset, _ = collect_images([path])
    run = detect(model, dataset, tmp_path / "out", progress=False)
    assert run.images == 0 and len(run.failures) == 1
    assert str(path) in run.failures[0] and "turned by 90 degrees" in run.failures[0]


def test_any_model_does_what_its_configuration_asks_for(truth):
    settings = {"TEST_TIME_AUGMENTATION": "flips", "TEST_TIME_VOTES": 0.75}
    found = predict(with_views(CarelessReader(**settings)), coded(truth))
    expected = predict(TestTimeAugmentation(CarelessReader(TEST_TIME_VOTES=0.75), make_views("flips")), coded(truth))
    np.testing.assert_array_equal(found.labels, expected.labels)
    by_default = predict(TestTimeAugmentation(CarelessReader(**settings)), coded(truth))
    np.testing.assert_array_equal(by_default.labels, expected.labels)

    plain = CarelessReader()
    assert with_views(plain) is plain


def test_learning_and_saving_are_the_models_own(tmp_path):
    class Learner(Reader):
        def fit(self, train, val, *, epochs=None, callbacks=()):
            return train, val, epochs, callbacks

        def save(self, path):
            path.touch()

    model = TestTimeAugmentation(Learner(), EIGHT)
    assert model.fit(1, 2, epochs=3, callbacks=[4]) == (1, 2, 3, [4])
    model.save(tmp_path / "model.h5")
    assert (tmp_path / "model.h5").exists() and model.config is model.model.config


# ---- Mask R-CNN --------------------------------------------------------------------------------------------


class FakeMaskRCNN(MaskRCNNModel):
    """Finds what `coded` wrote, each nucleus one pixel too wide on every side, so that neighbours overlap."""

    def __init__(self, **settings):
        super().__init__(None, make_config("inference", settings=settings))
        self.network = SimpleNamespace(mode="inference", detect_instances=self.detect_instances)
        self.seen = []

    def detect_instances(self, images, batch_size):
        (image,) = images
        self.seen.append(image)
        labels = image[..., 0].astype(np.int32)
        boxes, crops = [], []
        for number, (y1, x1, y2, x2) in enumerate(bounding_boxes(labels), start=1):
            if y2 > y1:
                box = max(y1 - 1, 0), max(x1 - 1, 0), min(y2 + 1, labels.shape[0]), min(x2 + 1, labels.shape[1])
                mask = (labels[box[0] : box[2], box[1] : box[3]] == number).astype(np.uint8)
                boxes.append(box)
                crops.append(cv2.blur(cv2.dilate(mask, np.ones((3, 3))).astype(np.float32), (3, 3)))
        scores = 1 / np.arange(2, len(boxes) + 2, dtype=np.float32)
        found = SimpleNamespace(
            boxes=np.array(boxes, np.int32).reshape(-1, 4),
            scores=scores,
            limit_reached=False,
            crop_probabilities=lambda index: crops[index],
            crop=lambda index: crops[index] >= self.config.DETECTION_MASK_THRESHOLD,
        )
        return [found]


@pytest.mark.parametrize("rule", ["score", "largest", "nearest-centroid"])
def test_mask_rcnn_that_does_not_mind_finds_the_same(truth, rule):
    image = coded(truth)
    settings = {"OVERLAP_RULE": rule, "MIN_AREA": 30, "DETECTION_MASK_THRESHOLD": 0.3}
    expected = predict(FakeMaskRCNN(**settings), image)
    model = FakeMaskRCNN(**settings, TEST_TIME_AUGMENTATION="flips-rotations")
    found = predict(with_views(model), image)
    assert len(model.seen) == 8 and expected[0].max() > 10
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_mask_rcnn_sees_one_picture_in_all_views():
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)
    model = FakeMaskRCNN(CLAHE=True, TEST_TIME_AUGMENTATION="flips")
    predict(with_views(model), image)
    prepared = Clahe()(image)
    for view, seen in zip(make_views("flips"), model.seen, strict=True):
        np.testing.assert_array_equal(seen, view.apply(prepared))


# ---- U-Net -------------------------------------------------------------------------------------------------


class FakeUNet(UNetModel):
    """Takes an image's channels for probabilities, which it gets wrong at the upper edge of what it sees."""

    def __init__(self, config):
        super().__init__(None, config)
        self.network = SimpleNamespace(predict=self.predict_channels)
        self.seen = 0

    def predict_channels(self, images):
        self.seen += len(images)
        probabilities = [image.astype(np.float32) / 255 for image in images]
        for channels in probabilities:
            channels[:6] *= 0.1
        return probabilities


def probabilities_of(model, image):
    (evidence,) = with_views(model).observe([image])
    return mean_probabilities(evidence)


@pytest.fixture
def channels():
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (41, 30, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 3, borderType=cv2.BORDER_REFLECT) * np.uint8(2)


def unet_config(**settings):
    return make_config("inference", settings=settings, model="unet")


def test_unet_averages_its_probabilities(channels):
    config = unet_config(TEST_TIME_AUGMENTATION="flips-rotations")
    model = FakeUNet(config)
    found = probabilities_of(model, channels)
    assert model.seen == 8 and found.dtype == np.float32 and found.shape == channels.shape

    expected = np.zeros(channels.shape)
    for turned in range(4):
        for flipped in (False, True):
            view = np.rot90(channels, turned)
            view = view[::-1] if flipped else view
            (answer,) = FakeUNet(config).predict_channels([view])
            expected += np.rot90(answer[::-1] if flipped else answer, -turned)
    np.testing.assert_allclose(found, expected / 8, atol=1e-6)

    labels, scores = predict(with_views(model), channels)
    by_hand = postprocess(found, PostprocessSettings.from_config(config))
    np.testing.assert_array_equal(labels, by_hand[0])
    np.testing.assert_array_equal(scores, by_hand[1])
    assert labels.max() > 0


def test_unet_is_tuned_on_the_probabilities_that_its_views_average(channels, monkeypatch):
    seen = []
    monkeypatch.setattr(unet_tuning, "search_postprocessing", lambda predict, *_: seen.append(predict(channels)))
    config = unet_config(TEST_TIME_AUGMENTATION="flips-rotations")
    with_views(FakeUNet(config)).tune(None)
    FakeUNet(config).tune(None)
    averaged, alone = seen
    np.testing.assert_array_equal(averaged, probabilities_of(FakeUNet(config), channels))
    assert not np.allclose(alone, averaged)


def test_unet_stays_within_probabilities_when_scaled():
    config = unet_config(TEST_TIME_AUGMENTATION="flips", TEST_TIME_SCALES=(0.6, 1, 1.7))
    image = (np.random.default_rng(0).random((37, 23, 3)) > 0.5).astype(np.uint8) * 255
    found = probabilities_of(FakeUNet(config), image)
    assert found.shape == image.shape and found.min() >= 0 and found.max() <= 1
    predict(with_views(FakeUNet(config)), image)


def test_without_it_a_unet_answers_as_it_is(channels):
    config = unet_config()
    model = FakeUNet(config)
    (answer,) = FakeUNet(config).predict_channels([channels])
    labels, scores = predict(with_views(model), channels)
    expected = postprocess(answer, PostprocessSettings.from_config(config))
    assert model.seen == 1
    np.testing.assert_array_equal(labels, expected[0])
    np.testing.assert_array_equal(scores, expected[1])


# ---- Settings ----------------------------------------------------------------------------------------------


def test_settings_are_read_from_text():
    config = NucleusUNetConfig().update({"TEST_TIME_AUGMENTATION": "flips", "TEST_TIME_SCALES": "(0.8, 1)"})
    assert config.TEST_TIME_SCALES == (0.8, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"TEST_TIME_AUGMENTATION": "spirals"}, "TEST_TIME_AUGMENTATION.*spirals"),
        ({"TEST_TIME_SCALES": "(0, 1)"}, "TEST_TIME_SCALES.*above 0"),
        ({"TEST_TIME_SCALES": "(1, 1)"}, "TEST_TIME_SCALES.*twice"),
        ({"TEST_TIME_SCALES": "1.5"}, "TEST_TIME_SCALES"),
        ({"TEST_TIME_VOTES": 0}, "TEST_TIME_VOTES"),
        ({"TEST_TIME_VOTES": 1.1}, "TEST_TIME_VOTES"),
    ],
)
@pytest.mark.parametrize("model", ["mask_rcnn", "unet"])
def test_settings_out_of_range(settings, message, model):
    with pytest.raises(SettingsError, match=message):
        make_config("inference", settings=settings, model=model)
