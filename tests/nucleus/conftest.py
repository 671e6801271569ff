"""Small datasets in the Data Science Bowl's layout, made for a test."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage

from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.settings import PredictionSettings


@pytest.fixture
def add_sample(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that adds one image with its masks to `tmp_path`/`folder` and returns the image's folder."""

    def add(
        name: str,
        masks: Sequence[np.ndarray] | None,
        shape: tuple[int, int] = (12, 16),
        folder: str = "stage1_train",
    ) -> Path:
        sample = tmp_path / folder / name
        (sample / "images").mkdir(parents=True)
        image = np.random.default_rng(len(name)).integers(0, 256, (*shape, 3), np.uint8)
        cv2.imwrite(str(sample / "images" / f"{name}.png"), image)
        if masks is not None:
            (sample / "masks").mkdir()
            for number, mask in enumerate(masks):
                cv2.imwrite(str(sample / "masks" / f"{number:03d}.png"), mask.astype(np.uint8) * 255)
        return sample

    return add


@pytest.fixture
def rectangle() -> Callable[..., np.ndarray]:
    """Returns a function that makes a mask, bool [12, 16] unless told, of one filled rectangle."""

    def make(y1: int, x1: int, y2: int, x2: int, shape: tuple[int, int] = (12, 16)) -> np.ndarray:
        mask = np.zeros(shape, bool)
        mask[y1:y2, x1:x2] = True
        return mask

    return make


class FakeModel(NucleusModel):
    """A model whose answers a test knows: a function finds the nuclei, and there is nothing to learn or to save.

    Args:
        find: Given preprocessed pixels, uint8 `[H, W, 3]` RGB, returns labels int32 `[H, W]` and scores float32 `[N]`.
        config: Settings of preprocessing and of test-time augmentation; by default neither happens.
    """

    def __init__(
        self,
        find: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
        config: PredictionSettings | None = None,
    ):
        self.find, self.config = find, config or PredictionSettings()

    def fit(self, train, val, *, epochs=None, callbacks=()):
        raise NotImplementedError

    def save(self, path):
        raise NotImplementedError

    def _predict(self, images):
        return [Prediction(*self.find(image)) for image in images]


def find_bright(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    labels, count = ndimage.label(image.mean(axis=2) > 127)
    return labels.astype(np.int32), np.linspace(0.9, 0.5, count, dtype=np.float32)


@pytest.fixture(scope="session")
def fake_model() -> type[FakeModel]:
    """The class of models that find what a function finds."""
    return FakeModel


@pytest.fixture
def threshold_predictor() -> FakeModel:
    """A model that needs no weights: what is brighter than mid-grey are nuclei."""
    return FakeModel(find_bright)


@pytest.fixture
def write_squares(tmp_path: Path) -> Callable[..., Path]:
    """Returns a function that writes an image [24, 32] with bright squares of 4 x 4, and its path."""

    def write(path: str, *corners: tuple[int, int]) -> Path:
        image = np.zeros((24, 32, 3), np.uint8)
        for y, x in corners:
            image[y : y + 4, x : x + 4] = 200
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(file), image)
        return file

    return write


@pytest.fixture(scope="session")
def blobs() -> Callable[..., np.ndarray]:
    """Returns a function that makes a label image of random rectangles with gaps between the label numbers."""

    def make(rng: np.random.Generator, shape: tuple[int, int] = (60, 70), count: int = 12) -> np.ndarray:
        labels = np.zeros(shape, np.int32)
        for label in rng.permutation(np.arange(1, 3 * count))[:count]:
            y, x = rng.integers(0, shape[0] - 12), rng.integers(0, shape[1] - 12)
            labels[y : y + rng.integers(4, 12), x : x + rng.integers(4, 12)] = label
        return labels

    return make
