"""The question that every model answers: any images in, label images and scores out, preprocessed once and alike."""

import cv2
import numpy as np
import pytest

from nucleus.datasets.dataset import NucleusDataset
from nucleus.images.preprocess import Clahe
from nucleus.models.base import Prediction, preprocess
from nucleus.models.loading import load_model
from nucleus.models.scale import FixedScale
from nucleus.models.settings import PredictionSettings


@pytest.fixture
def grey():
    """An image uint8 `[40, 56]` whose values span the whole range, with three bright squares."""
    image = np.random.default_rng(0).integers(0, 100, (40, 56), np.uint8)
    for y, x in ((4, 5), (20, 12), (25, 40)):
        image[y : y + 9, x : x + 7] = 230
    image[:4] = 0
    image[-4:] = 255
    return image


@pytest.fixture
def rgb(grey):
    """The same image, uint8 `[40, 56, 3]`."""
    return np.repeat(grey[..., None], 3, axis=2)


def same(one, other):
    """Returns True if two lists of predictions are equal, types included."""
    return len(one) == len(other) and all(
        np.array_equal(a, b) and a.dtype == b.dtype
        for first, second in zip(one, other, strict=True)
        for a, b in zip(first, second, strict=True)
    )


def test_a_prediction_is_a_label_image_and_scores(threshold_model, rgb):
    (prediction,) = threshold_model.predict(rgb)
    labels, scores = prediction
    assert isinstance(prediction, Prediction) and prediction.labels is labels and prediction.scores is scores
    assert (labels.shape, labels.dtype, scores.dtype) == ((40, 56), np.int32, np.float32)
    assert len(scores) == labels.max() == 4, "three squares and the bottom"


FORMS = {
    "[H, W]": lambda grey: grey,
    "[H, W, 1]": lambda grey: grey[..., None],
    "[H, W, 3]": lambda grey: np.stack([grey] * 3, axis=2),
    "[H, W, 4], alpha dropped": lambda grey: np.stack([*[grey] * 3, np.arange(56, dtype=np.uint8) + 0 * grey], axis=2),
    "no contiguous memory": lambda grey: np.asfortranarray(np.stack([grey] * 3, axis=2)),
    "a list of rows": lambda grey: [grey.tolist()],
    "[1, H, W, 3]": lambda grey: np.stack([grey] * 3, axis=2)[None],
    "a tuple": lambda grey: (grey,),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_image_of_two_or_three_dimensions_is_one_image(threshold_model, grey, rgb, form):
    if form == "a list of rows":
        grey = grey.astype(np.int64)
    assert same(threshold_model.predict(FORMS[form](grey)), threshold_model.predict(rgb))


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "int64", "uint32", "float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [None, 3])
def test_other_dtypes_are_scaled_as_in_files(threshold_model, grey, rgb, dtype, channels):
    image = grey.astype(dtype) * np.array(100, dtype) if dtype != "float16" else grey.astype(dtype) / np.float16(512)
    image = image if channels is None else np.stack([image] * channels, axis=2)
    assert image.dtype == dtype
    assert same(threshold_model.predict(image), threshold_model.predict(rgb)), "0 to 255, one scale for all"


def test_binary_images_are_black_and_white(threshold_model, grey):
    assert same(threshold_model.predict(grey > 127), threshold_model.predict((grey > 127) * np.uint8(255)))


def test_many_images_are_answered_in_their_order(threshold_model, rgb):
    images = [rgb, rgb[:20], rgb[::-1], rgb[:, :30]]
    expected = [threshold_model.predict(image)[0] for image in images]
    assert same(threshold_model.predict(images), expected)
    assert same(threshold_model.predict(np.stack([rgb, rgb[::-1]])), [expected[0], expected[2]])
    assert threshold_model.predict([]) == []


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(7, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0), np.uint8),
        np.zeros((4, 6, 5), np.uint8),
        np.zeros((5, 4, 6, 8), np.float32),
        np.zeros((4, 6), np.complex64),
        np.full((4, 6), "a"),
    ],
    ids=lambda wrong: f"{wrong.dtype} {wrong.shape}",
)
def test_what_is_no_image_is_refused_with_its_shape(threshold_model, rgb, wrong):
    shape = str(wrong.shape[-3:]).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=rf"Expected (an image|channels last).*Received: .*{shape}"):
        threshold_model.predict(wrong)
    with pytest.raises(ValueError, match=r"Expected (an image|channels last)"):
        threshold_model.predict([rgb, wrong])


def test_images_are_preprocessed_as_in_training(fake_model, rgb):
    for settings, expected in (
        ({}, rgb),
        ({"CLAHE": True, "CLAHE_CLIP_LIMIT": 3.0, "CLAHE_TILE_GRID": (4, 2)}, Clahe(3.0, (4, 2))(rgb)),
    ):
        config, seen = PredictionSettings().update(settings), []

        def find(image, seen=seen):
            seen.append(image)
            return np.zeros(image.shape[:2], np.int32), np.zeros(0, np.float32)

        fake_model(find, config).predict([rgb, rgb])
        assert len(seen) == 2 and all(np.array_equal(image, expected) for image in seen)
        np.testing.assert_array_equal(preprocess(rgb, config), expected)
    assert preprocess(rgb, PredictionSettings()) is rgb, "nothing to do, nothing copied"


def test_a_model_without_thresholds_refuses_to_tune_also_inside_wrappers(threshold_model):
    for model in (threshold_model, FixedScale(threshold_model, 2.0)):
        with pytest.raises(ValueError, match="FakeModel has no thresholds to tune"):
            model.tune(NucleusDataset())


@pytest.mark.parametrize(("kind", "settings"), [("unet", {"KEEP_UNMARKED": True}), ("mask_rcnn", {})])
def test_images_of_like_size_are_found_in_a_batch_as_one_by_one(tiny_weights, kind, settings, eager):
    model = load_model(tiny_weights[kind], settings=settings)
    rng = np.random.default_rng(1)
    images = [
        cv2.GaussianBlur(rng.integers(0, 256, (*shape, 3), np.uint8), (0, 0), 3)
        for shape in ((40, 56), (64, 64), (40, 56), (30, 33), (40, 56))
    ]
    together, apart = model.predict(images), [model.predict(image)[0] for image in images]
    assert sum(len(prediction.scores) for prediction in together) > 0, "otherwise nothing is compared"
    for image, one, other in zip(images, together, apart, strict=True):
        assert one.labels.shape == image.shape[:2]
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
