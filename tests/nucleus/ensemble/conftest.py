"""Images with big and small nuclei, and members that are good at one kind each."""

import importlib
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest

from nucleus.ensemble.boosting import BoostingSettings
from nucleus.ensemble.candidates import gather, true_iou
from nucleus.ensemble.examples import Example
from nucleus.ensemble.features import describe_masks, feature_names
from nucleus.ensemble.fitting import FitSettings, Fitted, fit_ensemble

BIG, SMALL = 9, 4
CELL = 24


def disc(labels: np.ndarray, y: int, x: int, radius: int, label: int) -> None:
    rows, columns = np.ogrid[: labels.shape[0], : labels.shape[1]]
    labels[(rows - y) ** 2 + (columns - x) ** 2 <= radius**2] = label


def draw(radii: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Draws a disc in each cell of a grid, off its middle by a shift; a radius of 0 leaves the cell empty."""
    labels = np.zeros((CELL * radii.shape[0], CELL * radii.shape[1]), np.int32)
    for (row, column), radius in np.ndenumerate(radii):
        if radius:
            middle = CELL * row + CELL // 2, CELL * column + CELL // 2
            disc(labels, middle[0], middle[1] + shifts[row, column], radius, labels.max() + 1)
    return labels


@pytest.fixture(scope="session")
def scene() -> Callable[[int], tuple[np.ndarray, np.ndarray, dict]]:
    """Returns a function of a seed that gives an image, its truth, and the predictions of two members.

    "big" outlines big nuclei exactly and small ones in the wrong place, "small" the other way round.
    """

    def make(seed: int):
        rng = np.random.default_rng(seed)
        radii = rng.choice([BIG, SMALL], (4, 4))
        truth = draw(radii, np.zeros_like(radii))
        image = np.repeat(np.where(truth > 0, 180, 30)[..., None], 3, axis=2)
        image = (image + rng.integers(-10, 10, image.shape)).astype(np.uint8)
        predictions = {}
        for name, good in (("big", BIG), ("small", SMALL)):
            labels = draw(radii, np.where(radii == good, 0, radii // 2))
            predictions[name] = labels, rng.uniform(0.6, 0.9, labels.max()).astype(np.float32)
        return image, truth, predictions

    return make


@pytest.fixture(scope="session")
def make_example() -> Callable[..., Example]:
    """Returns a function that makes an example of an image, its truth and predictions."""

    def make(name: str, image: np.ndarray, truth: np.ndarray, predictions: dict, groups=None) -> Example:
        candidates = gather(predictions)
        columns = describe_masks(candidates, image)
        names = feature_names(groups or FitSettings().groups, candidates.members)
        features = np.stack([columns[column] for column in names], axis=1)
        return Example(name, "unknown", candidates, features, true_iou(candidates, truth), truth)

    return make


@pytest.fixture(scope="session")
def lightgbm() -> ModuleType:
    """LightGBM; without OpenMP's library, which no wheel brings along, what needs it is skipped."""
    try:
        return importlib.import_module("lightgbm")
    except OSError as error:
        pytest.skip(f"LightGBM cannot be loaded: {error}")


@pytest.fixture(scope="session")
def quick(lightgbm) -> FitSettings:
    """Fits two models that grow in no time."""
    return FitSettings(boosting=(BoostingSettings(0.3, 7, 1.0, 12), BoostingSettings(0.2, 4, 0.7, 15)))


@pytest.fixture(scope="session")
def examples(scene, make_example) -> list[Example]:
    """Nine images, "0" to "8"."""
    return [make_example(str(seed), *scene(seed)) for seed in range(9)]


@pytest.fixture(scope="session")
def folds() -> list[list[str]]:
    """Three folds of these images."""
    return [[str(seed) for seed in range(start, 9, 3)] for start in range(3)]


@pytest.fixture(scope="session")
def fitted(examples, folds, quick) -> Fitted:
    """The ensemble of "big" and "small"."""
    return fit_ensemble(examples, folds, quick)
