"""Images of disks whose outlines are known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nucleus.images.reading import read_image

SHIPPED = Path(__file__).parents[4] / "samples" / "nucleus" / "data" / "stage1_train"
DISKS = ((20, 22, 9), (50, 40, 12), (30, 80, 7), (75, 78, 11), (0, 50, 8), (90, 15, 6))


@pytest.fixture
def disks() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Returns a function that makes (image uint8 [96, 100, 3], labels) of nuclei given as (y, x, radius)."""

    def make(circles=DISKS, nucleus=170, background=40, noise=6.0, shape=(96, 100), seed=0):
        y, x = np.mgrid[: shape[0], : shape[1]]
        labels = np.zeros(shape, np.int32)
        for number, (row, column, radius) in enumerate(circles, start=1):
            labels[(y - row) ** 2 + (x - column) ** 2 <= radius**2] = number
        grey = np.where(labels > 0, nucleus, background) + np.random.default_rng(seed).normal(0, noise, shape)
        return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), labels

    return make


@pytest.fixture
def shipped_image() -> np.ndarray:
    """A fluorescence image, uint8 [256, 256, 3]."""
    (path,) = SHIPPED.glob("abbfff07*/images/*.png")
    return read_image(path)
