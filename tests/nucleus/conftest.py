"""Small datasets in the Data Science Bowl's layout, made for a test."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage


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


class ThresholdPredictor:
    """Finds what is brighter than mid-grey: a predictor whose answers a test knows without a network."""

    def predict_labels(self, image):
        labels, count = ndimage.label(image.mean(axis=2) > 127)
        return labels.astype(np.int32), np.linspace(0.9, 0.5, count, dtype=np.float32)


@pytest.fixture
def threshold_predictor() -> ThresholdPredictor:
    """A predictor that needs no weights."""
    return ThresholdPredictor()


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
