"""Access to a data set's images in training."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np


class SampleSource(Protocol):
    """Data set of images with labels."""

    def load_image(self, image_id: int) -> np.ndarray:
        """Returns the image at an index."""

    def load_labels(self, image_id: int) -> Any:
        """Returns the labels of the image at an index."""


@runtime_checkable
class VariedSource(Protocol):
    """Data set that varies its images in training beyond what augments a single image, such as by mixing images."""

    def draw_sample(self, image_id: int, rng: np.random.Generator) -> tuple[np.ndarray, Any]:
        """Returns an image with its labels, as `load_image` and `load_labels` do.

        Called in training only, from several threads at once.

        Args:
            image_id: Index of the image.
            rng: Generator of every random choice.
        """


def draw_sample(
    dataset: SampleSource | VariedSource, image_id: int, rng: np.random.Generator
) -> tuple[np.ndarray, Any]:
    """Returns an image with its labels, varied at random if the data set is a `VariedSource`.

    Args:
        dataset: The data set.
        image_id: Index of the image.
        rng: Generator of every random choice.

    Returns:
        (result of `load_image`, result of `load_labels`).
    """
    if isinstance(dataset, VariedSource):
        return dataset.draw_sample(image_id, rng)
    return dataset.load_image(image_id), dataset.load_labels(image_id)
