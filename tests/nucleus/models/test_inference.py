"""Prediction: preprocessing before the network, overlap rule and least area after it."""

from types import SimpleNamespace

import numpy as np
import pytest

from nucleus.images.preprocess import clahe
from nucleus.models.config import make_config
from nucleus.models.inference import MaskRCNNPredictor, predict, preprocessing


class FakeMaskRCNN:
    """Answers every image with the instances it was given, and remembers the image."""

    def __init__(self, boxes, scores, **settings):
        self.config = make_config("inference", settings=settings)
        self._found = SimpleNamespace(
            boxes=np.array(boxes, np.int32).reshape(-1, 4),
            scores=np.array(scores, np.float32),
            crop=lambda index: np.ones(np.subtract(boxes[index][2:], boxes[index][:2]), bool),
        )

    def detect_instances(self, images):
        self.seen = images
        return [self._found]


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


BOXES = [(0, 0, 10, 10), (0, 6, 20, 26), (30, 30, 32, 31)]
SCORES = [0.9, 0.8, 0.7]


@pytest.mark.parametrize(
    ("rule", "areas"), [("score", [100, 360, 2]), ("largest", [60, 400, 2]), ("nearest-centroid", [100, 360, 2])]
)
def test_the_overlap_rule_is_the_configurations(image, rule, areas):
    labels, scores = predict(FakeMaskRCNN(BOXES, SCORES, OVERLAP_RULE=rule), image)
    assert labels.dtype == np.int32 and scores.dtype == np.float32
    np.testing.assert_array_equal(np.bincount(labels.ravel())[1:], areas)
    np.testing.assert_allclose(scores, SCORES)


def test_small_instances_go_with_their_scores(image):
    boxes = [BOXES[2], BOXES[0]]
    labels, scores = predict(FakeMaskRCNN(boxes, [0.9, 0.6], MIN_AREA=3), image)
    assert labels.max() == 1
    np.testing.assert_array_equal(np.argwhere(labels == 1).max(axis=0), [9, 9])
    np.testing.assert_allclose(scores, [0.6])


def test_holes_of_a_nucleus_are_filled_where_asked_for(image):
    ring = np.ones((10, 10), bool)
    ring[3:6, 4:7] = ring[0, 5] = False
    for fill, least, pixels in ((False, 0, 90), (True, 0, 99), (True, 99, 99), (True, 100, 0), (False, 99, 0)):
        model = FakeMaskRCNN([BOXES[0]], [0.9], FILL_HOLES=fill, MIN_AREA=least)
        model._found.crop = lambda index: ring
        labels, _ = predict(model, image)
        assert np.count_nonzero(labels == 1) == np.count_nonzero(labels) == pixels, "what is open stays open"


def test_an_image_without_nuclei(image):
    labels, scores = predict(FakeMaskRCNN([], [], MIN_AREA=5), image)
    assert labels.shape == (40, 50) and not labels.any() and scores.shape == (0,)


def test_preprocessing_is_that_of_training(image):
    plain, equalised = (
        FakeMaskRCNN([], []),
        FakeMaskRCNN([], [], CLAHE=True, CLAHE_CLIP_LIMIT=3.0, CLAHE_TILE_GRID=(4, 2)),
    )
    predict(plain, image)
    predict(equalised, image)
    np.testing.assert_array_equal(plain.seen[0], image)
    np.testing.assert_array_equal(equalised.seen[0], clahe(image, 3.0, (4, 2)))
    np.testing.assert_array_equal(preprocessing(equalised.config)(image), equalised.seen[0])
    assert preprocessing(plain.config) is None


def test_application_settings_may_differ_from_the_models_own(image):
    predictor = MaskRCNNPredictor(FakeMaskRCNN(BOXES, SCORES), make_config("inference", settings={"MIN_AREA": 200}))
    assert predict(predictor, image)[0].max() == 1


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_image_is_refused(wrong, threshold_predictor):
    with pytest.raises(ValueError, match="RGB image"):
        predict(threshold_predictor, wrong)
