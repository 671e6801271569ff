"""The thesis' ensemble: its rules, and its scores on folds and on a test set, of label images that a test knows."""

import importlib

import cv2
import numpy as np
import pytest

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.folds import Folds
from nucleus.datasets.layouts.tables import write_modalities
from nucleus.ensemble.candidates import gather
from nucleus.ensemble.fitting import FitSettings, NothingToLearnError
from nucleus.experiments.publications.ensemble import fit_ensemble, score_out_of_fold, score_test
from nucleus.models.registry import make_config

BIG, SMALL, CELL, ROWS = 12, 5, 16, 5
FOLDS = Folds((("a", "b"), ("c", "d")))
MODALITIES = {"a": "fluorescence-1", "b": "h&e-purple", "c": "fluorescence", "d": "brightfield", "e": "histology-2"}


@pytest.fixture(autouse=True)
def lightgbm():
    """Skips where OpenMP's library, which no wheel brings along, is missing."""
    try:
        importlib.import_module("lightgbm")
    except OSError as error:
        pytest.skip(f"LightGBM cannot be loaded: {error}")


def draw(sides, whole):
    """Draws a square in each cell of a grid; of those whose side is not `whole`, unless that is None, half a square."""
    labels = np.zeros((CELL * ROWS, CELL * ROWS), np.int32)
    for number, ((row, column), side) in enumerate(np.ndenumerate(sides), start=1):
        y, x, width = CELL * row + 2, CELL * column + 2, side if whole in (None, side) else side // 2
        labels[y : y + side, x : x + width] = number
    return labels


@pytest.fixture
def scenes(tmp_path, add_sample):
    """Five images; the U-Net finds the big nuclei whole, the Mask R-CNN the small ones. Returns their sides by name."""
    sides = {}
    for seed, name in enumerate(MODALITIES):
        sides[name] = np.random.default_rng(seed).choice([BIG, SMALL], (ROWS, ROWS))
        truth = draw(sides[name], None)
        add_sample(name, [truth == number for number in range(1, ROWS**2 + 1)], truth.shape)
        for model, whole in (("unet", BIG), ("mask_rcnn", SMALL)):
            folder = tmp_path / model / ("test" if name == "e" else "fold1" if name in FOLDS.ids[0] else "fold2")
            folder.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / f"{name}.png"), draw(sides[name], whole).astype(np.uint16))
    write_modalities(tmp_path / "classes.csv", MODALITIES)
    return sides


@pytest.fixture
def load(tmp_path):
    """Returns a function that reads some of the images."""

    def read(names):
        dataset = NucleusDataset()
        dataset.load_nucleus(tmp_path, "stage1_train")
        dataset.keep_images(set(names), str(tmp_path))
        dataset.prepare()
        return dataset

    return read


@pytest.fixture
def members(tmp_path):
    return {model: [tmp_path / model / "fold1", tmp_path / model / "fold2"] for model in ("unet", "mask_rcnn")}


def share_of_big(sides, names):
    return np.mean([sides[name] == BIG for name in names])


def test_images_of_all_folds_are_scored_with_what_fits_best(scenes, load, members):
    dataset = load("abcd")
    parts, shares = score_out_of_fold(fit_ensemble(dataset, members, FOLDS), dataset)
    scores = {part: sums[0].values() for part, sums in parts.items()}
    assert {part: values["images"] for part, values in scores.items()} == {"": 4, "fluorescence": 2, "histology": 1}
    for values in scores.values():
        assert values["mAP"] == 1 and values["predicted"] == ROWS**2 * values["images"]
    big = share_of_big(scenes, "abcd")
    assert shares == pytest.approx({"picked_unet": big, "picked_mask_rcnn": 1 - big})


def test_a_test_set_is_scored_by_the_ensemble_of_all_folds(scenes, load, members, tmp_path):
    ensemble = fit_ensemble(load("abcd"), members, FOLDS).ensemble
    found = {model: [tmp_path / model / "test"] for model in members}
    parts, shares = score_test(ensemble, load("e"), found)
    assert set(parts) == {"", "histology"} and parts[""][0].values()["mAP"] == 1
    assert shares["picked_unet"] == pytest.approx(share_of_big(scenes, "e"))
    with pytest.raises(ValueError, match=r"no label image a\.png"):
        score_test(ensemble, load("a"), found)


def test_members_that_find_nothing_teach_nothing(scenes, load, members):
    for folder in (folder for folders in members.values() for folder in folders):
        for path in folder.iterdir():
            cv2.imwrite(str(path), np.zeros((CELL * ROWS, CELL * ROWS), np.uint16))
    with pytest.raises(NothingToLearnError):
        fit_ensemble(load("abcd"), members, FOLDS)


def test_rules_are_those_of_the_thesis():
    """Section 4.3: out goes what is predicted to have an IoU below 0.3, or has one above 0.3 with a better mask."""
    clump, parts = np.zeros((20, 60), np.int32), np.zeros((20, 60), np.int32)
    clump[:10, :30] = 1
    for number in range(3):
        parts[:10, 10 * number : 10 * number + 9] = number + 1
    # Of two that are one nucleus, with an IoU of 0.5; and one alone.
    clump[10:20, 40:50], parts[10:20, 40:45], parts[10:20, 55:60] = 2, 4, 5
    candidates = gather({"one": (clump, np.ones(2)), "other": (parts, np.ones(5))})
    quality = np.array([0.31, 0.9, 0.8, 0.8, 0.8, 0.7, 0.29])
    settings = FitSettings.from_config(make_config("inference", "vuola", model="ensemble"))
    combination = settings.rules.combine(candidates, quality)
    # A tenth of the clump is left under its parts, and stays.
    assert combination.picked == ("one", "one", "other", "other", "other")
    assert [int(area) for area in np.bincount(combination.labels.ravel())[1:]] == [30, 100, 90, 90, 90]
    assert settings.groups == ("shape",) and not settings.choose_threshold
