"""Images seen in a square: what is found there comes back at the image's own size."""

from types import SimpleNamespace

import numpy as np
import pytest

from nucleus.evaluation.scores import overlaps, score
from nucleus.models.pixelwise import mean_probabilities
from nucleus.models.registry import make_config
from nucleus.models.settings import PredictionSettings
from nucleus.models.square import FitSquare
from nucleus.models.tta import Joint
from nucleus.models.unet import UNetModel


@pytest.fixture
def image():
    """A bright square in a dark image, uint8 `[40, 60, 3]`."""
    image = np.zeros((40, 60, 3), np.uint8)
    image[8:32, 12:36] = 200
    return image


def iou(image, labels):
    return score(overlaps((image[..., 0] > 0).astype(np.int32), labels)).values()["IoU"]


def test_images_seen_in_a_square_come_back_at_their_size(threshold_model, image):
    ((labels, scores),) = FitSquare(threshold_model, 120).predict(image)
    assert labels.shape == (40, 60) and labels.max() == len(scores) == 1
    assert iou(image, labels) > 0.95


def test_images_of_any_sizes_are_seen_as_squares_and_preprocessed_there(fake_model, image):
    seen = []

    def find(square):
        seen.append(square)
        return np.zeros(square.shape[:2], np.int32), np.zeros(0, np.float32)

    model = fake_model(find, PredictionSettings().update({"CLAHE": True}))
    prepared = []
    model.prepare = lambda square: prepared.append(square.shape) or square
    found = FitSquare(model, 32).predict([image, image[:20]])
    assert [labels.shape for labels, _ in found] == [(40, 60), (20, 60)]
    assert [square.shape for square in seen] == prepared == [(32, 32, 3)] * 2, "once, at the square's size"
    assert FitSquare(model, 32).predict([]) == []


class FakeUNet(UNetModel):
    """Takes the red channel for probabilities."""

    def __init__(self):
        super().__init__(None, make_config("inference", "original", model="unet"))
        self.network = SimpleNamespace(predict=lambda images: [image[..., :1] / np.float32(255) for image in images])


def test_probabilities_come_back_at_the_images_size(image):
    (evidence,) = FitSquare(FakeUNet(), 120).observe([image])
    found = mean_probabilities(evidence)
    assert found.shape == (40, 60, 1) and found.dtype == np.float32
    np.testing.assert_allclose(found[12:28, 16:32], 200 / 255, atol=0.01)
    assert found[:, 45:].max() < 0.01


@pytest.mark.parametrize("count", [1, 2])
def test_u_nets_in_squares_can_be_joined(image, count):
    ((labels, scores),) = Joint([FitSquare(FakeUNet(), 120) for _ in range(count)]).predict(image)
    assert labels.shape == (40, 60) and labels.max() == len(scores) == 1
    assert iou(image, labels) > 0.95


def test_any_model_in_a_square_is_itself_where_it_is_joined_with_none(threshold_model, image):
    model = FitSquare(threshold_model, 120)
    (one,), (other,) = Joint([model]).predict(image), model.predict(image)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_learning_and_saving_are_the_models_own(fake_model):
    model, saved = fake_model(None), []
    model.fit, model.save = lambda *arguments, **options: (arguments, options), saved.append
    square = FitSquare(model, 120)
    assert square.fit(1, 2, epochs=3, callbacks=[4]) == ((1, 2), {"epochs": 3, "callbacks": [4]})
    square.save("model.h5")
    assert saved == ["model.h5"] and square.config is model.config
