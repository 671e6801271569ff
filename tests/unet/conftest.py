"""Tiny U-Nets and a data set of discs."""

from collections.abc import Callable

import numpy as np
import pytest

from unet.config import UNetConfig

TINY = {
    "ENCODER": "plain",
    "ENCODER_FILTERS": (4, 6),
    "DECODER": "plain",
    "IMAGE_SIZE": 32,
    "BATCH_SIZE": 2,
    "STEPS_PER_EPOCH": 2,
    "VALIDATION_STEPS": 1,
    "DATA_WORKERS": 0,
    "STAGES": (("all", 1, 0.01),),
}


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., UNetConfig]:
    """Returns a function that makes the configuration of a tiny network, attributes by keyword."""
    return lambda **settings: UNetConfig.from_preset(settings={**TINY, **settings})


class Discs:
    """Bright discs on dark ground; three of four images are of one modality. Sizes differ."""

    def __init__(self, count=4, shape=(40, 48), channels=3):
        self.shape, self.channels = shape, channels
        self.image_ids = np.arange(count)
        names = ("stain", "light", "light", "light")
        self.image_info = [{"id": f"disc{index}", "modality": names[index % 4]} for index in range(count)]

    def load_labels(self, image_id):
        height, width = self.shape
        rows, columns = np.mgrid[:height, : width + 2 * (image_id % 2)]
        labels = np.zeros(rows.shape, np.int32)
        rng = np.random.default_rng(image_id)
        for number in range(1, 7):
            y, x = rng.uniform(0, height), rng.uniform(0, width)
            labels[(rows - y) ** 2 + (columns - x) ** 2 < 30] = number
        return labels, np.ones(6, np.int32)

    def load_image(self, image_id):
        labels, _ = self.load_labels(image_id)
        image = np.where(labels[..., None] > 0, 200, 40).repeat(self.channels, axis=2).astype(np.uint8)
        return image + np.random.default_rng(image_id).integers(0, 30, image.shape, np.uint8)


@pytest.fixture(scope="session")
def discs() -> type[Discs]:
    """The data set's class."""
    return Discs
