"""Large images in tiles: no nucleus is lost, cut or counted twice at a seam, and no limit passes in silence."""

import logging
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from nucleus.datasets.dataset import shipped_data
from nucleus.evaluation.scores import average_precision, overlaps
from nucleus.images.labels import relabel_sequential
from nucleus.images.preprocess import Clahe
from nucleus.images.reading import read_image
from nucleus.models.limits import Limit, report_limit, warn_of_limits, watch_limits
from nucleus.models.loading import load_model
from nucleus.models.registry import make_config
from nucleus.models.scale import with_scale
from nucleus.models.settings import PredictionSettings
from nucleus.models.tiles import Tiles, divide
from nucleus.models.tta import TestTimeAugmentation
from nucleus.models.views import make_views
from nucleus.prediction.detection import detect
from nucleus.prediction.inputs import collect_images
from trainkit.settings import SettingsError
from trainkit.shapes import MANY

SIDE, OVERLAP = 48, 16


def field(name):
    """A shipped image, by the first letters of its name."""
    (path,) = Path(shipped_data()).glob(f"*/{name}*/images/*.png")
    return read_image(path)


def coded(labels):
    """An image that bears the numbers of the nuclei, up to 65,535, in two channels."""
    return np.stack([labels % 256, labels // 256, np.zeros_like(labels)], axis=2).astype(np.uint8)


def read_code(image):
    """Finds exactly the nuclei that `coded` wrote, as far as the image shows them."""
    labels, kept = relabel_sequential(image[..., 0] + 256 * image[..., 1].astype(np.int32))
    return labels, (1 / (kept + 2)).astype(np.float32)


def near_sighted(image, blind=2):
    """Finds nuclei as networks do: nothing within some pixels of the edges of what they are shown."""
    labels, scores = read_code(image)
    seen = np.zeros_like(labels)
    seen[blind:-blind, blind:-blind] = labels[blind:-blind, blind:-blind]
    seen, kept = relabel_sequential(seen)
    return seen, scores[kept]


def shaky(image):
    """Moves every nucleus by a pixel or none, and makes it narrower or not, each time otherwise."""
    labels, scores = read_code(image)
    (height, width), moved = labels.shape, np.zeros_like(labels)
    rng = np.random.default_rng(image.astype(int).sum())
    for number in range(1, len(scores) + 1):
        y, x = rng.integers(0, 3, 2)
        mask = np.pad(labels == number, 1)[y : y + height, x : x + width].astype(np.uint8)
        moved[cv2.erode(mask, np.ones(rng.integers(1, 3, 2))) > 0] = number
    moved, kept = relabel_sequential(moved)
    return moved, scores[kept]


def rectangles(*boxes, shape):
    labels = np.zeros(shape, np.int32)
    for number, (y1, x1, y2, x2) in enumerate(boxes, start=1):
        labels[y1:y2, x1:x2] = number
    return labels


def same_nuclei(labels, truth):
    """Returns whether two label images show the same nuclei under any numbers."""
    pairs = np.unique(np.stack([labels.ravel(), truth.ravel()]), axis=1)
    return pairs.shape[1] == len(np.unique(truth)) == len(np.unique(labels))


@pytest.fixture
def tiled(fake_model):
    """Returns a function that predicts an image in tiles, of which `find` finds the nuclei."""

    def predict(image, find=read_code, side=SIDE, overlap=OVERLAP):
        (prediction,) = Tiles(fake_model(find), side, overlap).predict(image)
        assert prediction.labels.dtype == np.int32 and prediction.scores.dtype == np.float32
        assert len(prediction.scores) == prediction.labels.max() == len(np.unique(prediction.labels)) - 1
        return prediction

    return predict


# ---- The division ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "overlap"), [(48, 16), (100, 50), (64, 20), (256, 64), (1024, 128)])
def test_tiles_cover_an_image_of_any_length_and_overlap_enough(side, overlap):
    for length in [*range(1, 6 * side, max(1, side // 60)), 30_000]:
        tiles = divide((0, 7, 5, 7 + length), side, overlap)
        assert tiles[0][1] == 7 and tiles[-1][3] == 7 + length
        assert {(bottom - top, right - left) for top, left, bottom, right in tiles} == {(5, tiles[0][3] - 7)}
        assert tiles[0][3] - 7 <= side
        for (_, left, _, right), (_, following, _, end) in pairwise(tiles):
            assert left < following <= right - overlap and right < end


@pytest.mark.parametrize("pad", [lambda side: -side % 64 // 2, lambda side: (MANY.side(side, 32) - side) // 2])
def test_a_networks_cells_lie_on_the_same_pixels_in_tiles_and_in_the_whole(pad):
    """Networks pad both sides by half of what is missing, and their cells are 32 pixels of the image wide."""
    aligned = 0
    for length in range(1449, 4200, 7):
        tiles = divide((0, 0, 5, length), 1024, 128)
        assert len(tiles) == -(-(length - 128) // (1024 - 128)), "no more tiles than otherwise"
        cells = {(left - pad(right - left)) % 32 for _, left, _, right in tiles}
        aligned += cells == {-pad(length) % 32}
    assert aligned > 0.75 * len(range(1449, 4200, 7))


def test_an_image_up_to_twice_a_tile_is_shown_whole(fake_model):
    shapes = []

    def find(image):
        shapes.append(image.shape[:2])
        return read_code(image)

    model = Tiles(fake_model(find), 50, 10)
    model.predict([np.zeros((100, 50, 3), np.uint8), np.zeros((70, 71, 3), np.uint8)])
    assert shapes == [(100, 50), (70, 71)]
    shapes.clear()
    model.predict(np.zeros((101, 50, 3), np.uint8))
    assert len(shapes) == 3 and max(shapes) <= (50, 50)


def test_default_settings_show_the_shipped_images_whole():
    assert 2 * PredictionSettings().TILE_SIZE ** 2 >= 1400 * 1400


# ---- The rule at seams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 5, 13, 14, 15, 16, 17, 20, 31, 47, 48, 60, 100])
def test_a_nucleus_is_one_and_whole_wherever_it_lies_and_however_long_it_is(tiled, length):
    for start in range(150 - length):
        truth = rectangles((9, start, 21, start + length), shape=(40, 150))
        labels, scores = tiled(coded(truth))
        np.testing.assert_array_equal(labels, truth, err_msg=str(start))
        assert len(scores) == 1


@pytest.mark.parametrize("sides", [(3, 4), (14, 11), (16, 16), (17, 30), (40, 9), (60, 60)])
def test_a_nucleus_is_one_where_four_tiles_meet(tiled, sides):
    for top in range(20, 52 - min(sides) // 2, 3):
        for left in range(20, 52):
            truth = rectangles((top, left, top + sides[0], left + sides[1]), shape=(112, 112))
            labels, _ = tiled(coded(truth))
            np.testing.assert_array_equal(labels, truth, err_msg=str((top, left)))


@pytest.mark.parametrize("length", [6, 14, 16, 24, 70])
def test_nuclei_that_touch_stay_apart(tiled, length):
    for start in range(140 - length):
        middle, end = start + length // 2, start + length
        truth = rectangles(
            (3, start, 9, middle), (3, middle, 9, end), (9, start, 20, end), (20, start, 30, end), shape=(40, 150)
        )
        labels, _ = tiled(coded(truth))
        assert same_nuclei(labels, truth), start


def test_a_crowd_is_found_with_its_scores(tiled, blobs):
    rng = np.random.default_rng(1)
    truth, _ = relabel_sequential(blobs(rng, (300, 400), 600))
    expected = {number: score for number, score in enumerate(read_code(coded(truth))[1], start=1)}
    # Rectangles painted over each other leave nuclei of several parts, which are one as well.
    labels, scores = tiled(coded(truth), side=100, overlap=48)
    assert same_nuclei(labels, truth)
    where = [tuple(np.argwhere(labels == number)[0]) for number in range(1, labels.max() + 1)]
    assert [round(expected[truth[place]], 6) for place in where] == [round(float(score), 6) for score in scores]


@pytest.mark.parametrize("find", [near_sighted, shaky])
@pytest.mark.parametrize("length", [8, 30])
def test_tiles_that_disagree_neither_lose_nor_double_a_nucleus(tiled, find, length):
    for start in range(4, 250):
        end = start + length
        truth = rectangles((28, start, 36, end), (36, start + 2, 50, end + 2), shape=(80, 300))
        labels, _ = tiled(coded(truth), find, side=100, overlap=48)
        assert labels.max() == 2, start
        assert overlaps(truth, labels).best_iou.min() > 0.5, start


def test_a_nucleus_larger_than_the_overlap_is_one_though_no_tile_sees_it_to_its_edge(tiled):
    for start in range(4, 170):
        truth = rectangles((8, start, 30, start + 70), shape=(80, 250))
        labels, _ = tiled(coded(truth), near_sighted, side=100, overlap=48)
        np.testing.assert_array_equal(labels, truth, err_msg=str(start))


def test_a_hole_and_a_bay_stay_open(tiled):
    truth = rectangles((5, 10, 110, 130), (30, 40, 70, 90), shape=(120, 150))
    truth[90:, 60:70] = 0
    labels, _ = tiled(coded(truth))
    assert same_nuclei(labels, truth)


# ---- What is wrapped ---------------------------------------------------------------------------------------


def test_images_are_preprocessed_whole(fake_model):
    image, seen = field("da5f"), []

    def find(tile):
        seen.append(tile)
        return read_code(np.zeros_like(tile))

    Tiles(fake_model(find, PredictionSettings().update({"CLAHE": True})), 300, 64).predict(image)
    whole = Clahe()(image)
    tiles = divide((0, 0, *image.shape[:2]), 300, 64)
    assert len(seen) == len(tiles) > 4
    for tile, (y1, x1, y2, x2) in zip(seen, tiles, strict=True):
        np.testing.assert_array_equal(tile, whole[y1:y2, x1:x2])


def test_views_are_taken_of_every_tile(fake_model, blobs):
    truth, _ = relabel_sequential(blobs(np.random.default_rng(2), (120, 130), 60))
    shapes = set()

    def find(image):
        shapes.add(image.shape[:2])
        return read_code(image)

    settings = PredictionSettings().update({"TEST_TIME_AUGMENTATION": "flips", "TILE_SIZE": 64, "TILE_OVERLAP": 30})
    model = with_scale(fake_model(find, settings))
    assert type(model) is Tiles and type(model.model) is TestTimeAugmentation
    (found,) = model.predict(coded(truth))
    assert same_nuclei(found.labels, truth) and max(shapes) <= (64, 64)


def test_learning_saving_and_evidence_are_the_models_own(fake_model, tmp_path):
    class Learner(fake_model):
        def fit(self, train, val, *, epochs=None, callbacks=()):
            return train, val, epochs, callbacks

        def save(self, path):
            path.touch()

    model = Tiles(Learner(read_code), SIDE, OVERLAP)
    assert model.fit(1, 2, epochs=3, callbacks=[4]) == (1, 2, 3, [4])
    model.save(tmp_path / "model.h5")
    assert (tmp_path / "model.h5").exists() and model.config is model.model.config
    truth = rectangles((2, 3, 40, 140), shape=(50, 150))
    (evidence,) = model.observe([coded(truth)])
    np.testing.assert_array_equal(model.conclude(evidence, truth.shape).labels, truth)


def test_settings_decide_on_tiles(fake_model):
    model = load_model("classical", settings={"TILE_SIZE": "300", "TILE_OVERLAP": "40"})
    assert (type(model), model.side, model.overlap) == (Tiles, 300, 40)
    assert type(load_model("classical", settings={"TILE_SIZE": 0})) is not Tiles
    with pytest.raises(ValueError, match=r"overlap.*30 of 50"):
        Tiles(fake_model(read_code), 50, 30)


@pytest.mark.parametrize("kind", ["mask_rcnn", "unet", "classical"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"TILE_SIZE": -1}, "TILE_SIZE"),
        ({"TILE_OVERLAP": 8}, "TILE_OVERLAP"),
        ({"TILE_SIZE": 200}, "TILE_OVERLAP must be at most half of TILE_SIZE"),
    ],
)
def test_settings_out_of_range(kind, settings, message):
    with pytest.raises(SettingsError, match=message):
        make_config("inference", settings=settings, model=kind)


def test_tiles_without_nuclei_take_the_threshold_of_the_image():
    image = np.random.default_rng(0).normal(20, 4, (400, 400)).clip(0, 255).astype(np.uint8)
    image[20:50, 30:60] = 220
    bare = load_model("classical/otsu", settings={"TILE_SIZE": 0, "MIN_CONTRAST": 0})
    ((labels, _),) = Tiles(bare, 100, 32).predict(image)
    np.testing.assert_array_equal(labels, bare.predict(image)[0].labels)
    blank = image.copy()
    blank[20:50, 30:60] = 20
    views = TestTimeAugmentation(bare, make_views("flips"))
    assert Tiles(views, 100, 32).predict(image)[0].labels.max() == labels.max()


def test_bands_of_a_huge_image_give_the_threshold_of_all_of_it(monkeypatch):
    image, bare = field("da5f"), load_model("classical/otsu", settings={"TILE_SIZE": 0})
    whole = bare.predict(image)[0].labels
    monkeypatch.setattr("nucleus.models.classical.model._BAND_ROWS", 16)
    monkeypatch.setattr("nucleus.models.classical.model._SAMPLE_PIXELS", 12 * 16 * 696)
    assert average_precision(whole, bare.calibrate(image).predict(image)[0].labels) > 0.9
    assert average_precision(whole, bare.calibrate(image[:64, :200]).predict(image)[0].labels) < 0.9


# ---- The limit of nuclei -----------------------------------------------------------------------------------


@pytest.fixture
def limited(fake_model):
    """Returns a function that makes a model that finds so many nuclei at most, and says so."""

    def make(most):
        class Limited(fake_model):
            def _predict(self, images):
                for index, image in enumerate(images):
                    if len(read_code(image)[1]) >= most:
                        report_limit(Limit("MOST", most, image.shape[:2], index))
                return super()._predict(images)

        def find(image):
            labels, scores = read_code(image)
            return np.where(labels > most, 0, labels), scores[:most]

        return Limited(find)

    return make


@pytest.fixture
def grid():
    """A label image `[256, 256]` of 256 squares."""
    truth = np.zeros((256, 256), np.int32)
    for number in range(256):
        y, x = 16 * (number // 16), 16 * (number % 16)
        truth[y + 3 : y + 13, x + 3 : x + 13] = number + 1
    return truth


@pytest.mark.parametrize("side", [96, 256])
def test_a_tile_whose_nuclei_reach_the_limit_is_divided(limited, grid, side, caplog):
    (found,) = Tiles(limited(20), side, 16).predict(coded(grid))
    assert same_nuclei(found.labels, grid) and not caplog.records


def test_one_of_many_images_that_reaches_the_limit_is_divided(limited, grid):
    few = np.where(grid < 10, grid, 0)
    found = Tiles(limited(20), 256, 16).predict([coded(few), coded(grid), coded(few)])
    for prediction, truth in zip(found, (few, grid, few), strict=True):
        assert same_nuclei(prediction.labels, truth)


def test_a_limit_that_no_division_mends_is_reported_once_with_image_and_setting(limited, grid, caplog):
    with watch_limits() as reached:
        Tiles(limited(2), 96, 32).predict(coded(grid))
    assert len(reached) > 1 and {limit.setting for limit in reached} == {"MOST"} and not caplog.records
    with warn_of_limits("cells.png"):
        Tiles(limited(2), 96, 32).predict(coded(grid))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("cells.png: MOST=2 nuclei") and "TILE_SIZE" in record.getMessage()


def test_without_tiles_a_limit_is_reported_by_every_way_to_predict(limited, grid, caplog, tmp_path):
    limited(20).predict(coded(grid))
    assert "An image: MOST=20 nuclei were found in 256 x 256 pixels" in caplog.text
    caplog.clear()
    cv2.imwrite(str(tmp_path / "cells.png"), coded(grid)[..., ::-1])
    dataset, _ = collect_images([tmp_path / "cells.png"])
    detect(limited(20), dataset, tmp_path / "out", progress=False)
    assert [record.getMessage().split(": ")[0] for record in caplog.records] == [str(tmp_path / "cells.png")]


# ---- Real images -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "side"), [("1b44", 320), ("3594", 320), ("76a3", 320), ("da5f", 256)])
def test_classical_methods_find_in_tiles_what_they_find_in_the_whole(name, side):
    image, bare = field(name), load_model("classical", settings={"TILE_SIZE": 0})
    whole, tiled = bare.predict(image)[0].labels, Tiles(bare, side, 128).predict(image)[0].labels
    assert average_precision(whole, tiled) > 0.98


@pytest.fixture(scope="module")
def shipped():
    """The shipped models without tiles, by their kind."""
    return {kind: load_model(kind, settings={"TILE_SIZE": 0}) for kind in ("mask_rcnn", "unet", "shipped", "classical")}


@pytest.mark.parametrize("kind", ["mask_rcnn", "unet", "shipped"])
def test_networks_find_in_tiles_what_they_find_in_the_whole(shipped, kind):
    image, model = field("da5f")[:512, :640], shipped[kind]
    tiles = Tiles(model, 384, 128)
    assert len(tiles.regions(image.shape[:2])) == 4
    whole, tiled = model.predict(image)[0].labels, tiles.predict(image)[0].labels
    assert whole.max() > 100 and average_precision(whole, tiled) > 0.98


def test_a_tile_that_mask_rcnn_fills_is_divided(caplog):
    image = field("da5f")[:384]
    with warn_of_limits("image"):
        found = load_model("mask_rcnn", settings={"DETECTION_MAX_INSTANCES": 60}).predict(image)[0]
    assert len(found.scores) > 80 and "DETECTION_MAX_INSTANCES" not in caplog.text
    one = load_model("mask_rcnn", settings={"DETECTION_MAX_INSTANCES": 3, "TILE_SIZE": 0})
    assert len(one.predict(image[:128, :128])[0].scores) == 3
    assert "DETECTION_MAX_INSTANCES=3 nuclei were found in 128 x 128 pixels" in caplog.text


@pytest.mark.parametrize("kind", ["classical", "mask_rcnn", "shipped"])
def test_a_mosaic_has_the_nuclei_of_its_fields(shipped, kind):
    model = shipped[kind]
    fields = [field("da5f"), field("da5f")[::-1, ::-1]]
    # Between the fields lies a gap of background, or nuclei that two fields cut would be one.
    fields = [np.pad(each, ((0, 24), (0, 8), (0, 0)), constant_values=14) for each in fields]
    mosaic = np.concatenate(fields, axis=1)
    expected = sum(len(prediction.scores) for prediction in model.predict(fields))
    found = len(Tiles(model, 560, 128).predict(mosaic)[0].scores)
    assert expected > 200 and abs(found - expected) <= 0.02 * expected
