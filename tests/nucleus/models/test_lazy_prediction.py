"""Nuclei of dask's arrays are computed when they are asked for, and are those of an image in memory."""

import numpy as np
import pytest

import nucleus
from nucleus.models.classical.model import ClassicalModel
from nucleus.models.lazy_prediction import predict_lazy

array = pytest.importorskip("dask.array")
TILES = {"TILE_SIZE": 96, "TILE_OVERLAP": 32, "SKIP_GLASS": False}


@pytest.fixture
def pixels():
    """An image of 300 x 400 pixels with 48 discs on a grid, many of them on the seams of tiles."""
    y, x = np.mgrid[:300, :400]
    return np.where((y % 50 - 25) ** 2 + (x % 50 - 25) ** 2 < 150, 200, 20).astype(np.uint8)


def watched(pixels, read, chunks=70):
    """An array of dask that notes which of its blocks are computed."""

    def note(block, block_info=None):
        if block_info:
            read.append(tuple(block_info[0]["chunk-location"]))
        return block

    return array.from_array(pixels, chunks=chunks).map_blocks(note, dtype=pixels.dtype, meta=pixels[:0, :0])


def test_nothing_is_computed_until_it_is_asked_for_and_labels_are_unique_in_all_blocks(pixels):
    read = []
    model = nucleus.load_model("classical/otsu", settings=TILES)
    (found,) = model.predict(watched(pixels, read))
    labels, scores = found
    assert not read and labels.chunks == ((70, 70, 70, 70, 20), (70,) * 5 + (50,)) and labels.dtype == np.int32
    assert np.isnan(found.scale), "not known before anything is computed"
    computed = labels.compute()
    assert len(set(read)) == 30
    expected, confidences = model.predict(pixels)[0]
    assert computed.max() == len(np.unique(computed)) - 1 == len(scores.compute()) == 48
    np.testing.assert_array_equal(computed, expected)
    np.testing.assert_array_equal(scores.compute(), confidences)


def test_an_image_that_is_shown_whole_is_one_task_with_the_eager_result(pixels):
    read = []
    model = nucleus.load_model("classical/watershed")
    (found,) = model.predict(watched(pixels, read), channel=None)
    assert not read
    for lazy, eager in zip(found, model.predict(pixels)[0], strict=True):
        np.testing.assert_array_equal(lazy.compute(), eager)


def test_a_diameter_in_micrometres_sets_the_scale_of_the_tiles(pixels):
    settings = {**TILES, "KNOWN_DIAMETERS": (8, 16, 32), "DIAMETER_UM": 8}
    model = nucleus.load_model("classical/otsu", settings=settings)
    (found,) = model.predict(array.from_array(pixels, chunks=150), pixel_size=0.4)
    labels, scores = model.predict(pixels, pixel_size=0.4)[0]
    np.testing.assert_array_equal(found.labels.compute(), labels)
    np.testing.assert_array_equal(found.scores.compute(), scores)
    with pytest.raises(ValueError, match="needs the size of a pixel"):
        model.predict(array.from_array(pixels, chunks=150))


def test_planes_and_lists_of_arrays_are_predictions_of_their_own(pixels):
    model = nucleus.load_model("classical/otsu", settings=TILES)
    stack = array.from_array(np.stack([pixels, pixels[::-1]])[:, None], chunks=(1, 1, 100, 100))
    found = model.predict(stack, axes="ZCYX", plane="all")
    assert [one.labels.shape for one in found] == [(300, 400), (300, 400)]
    np.testing.assert_array_equal(found[1].labels.compute(), model.predict(pixels[::-1])[0].labels)
    assert len(model.predict([array.from_array(pixels), array.from_array(pixels)])) == 2
    with pytest.raises(ValueError, match="Expected"):
        model.predict(array.zeros((5, 40, 50, 3, 2)))


def test_a_file_is_opened_by_the_tasks_and_gives_what_predict_large_finds(pixels, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64))
    model = nucleus.load_model("classical/otsu", settings=TILES)
    with nucleus.open_lazy(path) as image:
        lazy = predict_lazy(model, image)
        nucleus.predict_large(model, image, tmp_path / "labels.tif", skip_glass=False, progress=False)
    np.testing.assert_array_equal(lazy.labels.compute(), tifffile.imread(tmp_path / "labels.tif"))


def test_a_model_that_finds_its_scale_looks_at_tiles_of_that_scale(pixels, fake_model):
    """Nuclei that are too large for the model are found in the reduced image, without a look before it is asked for."""
    seen = []

    def find(image):
        seen.append(image.shape)
        return ClassicalModel(preset="otsu").predict(image)[0]

    from nucleus.models.scale import AutoScale

    model = fake_model(find)
    model.config.update({**TILES, "KNOWN_DIAMETERS": (3.0, 6.9, 8.0)})
    labels, scores = predict_lazy(AutoScale(model), array.from_array(pixels, chunks=150))
    assert not seen
    computed = labels.compute()
    assert len(np.unique(computed)) - 1 == 48 == len(scores.compute())


def test_an_array_of_a_model_that_was_made_by_hand_is_computed_at_once(pixels):
    labels, _ = ClassicalModel(preset="otsu").predict(array.from_array(pixels))[0]
    assert isinstance(labels, np.ndarray)
