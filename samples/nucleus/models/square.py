"""A wrapper that shows a model every image scaled into a square."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mrcnn.resizing import resize_image
from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.wrapper import Wrapper
from unet.resize import resize_probabilities


class FitSquare(Wrapper):
    """A model that sees images scaled into a square, aspect ratio kept, and padded with zeros to it.

    Args:
        model: Finds nuclei in such squares.
        side: Side of the square in pixels.
    """

    def __init__(self, model: NucleusModel, side: int):
        super().__init__(model)
        self.side = side

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Returns the image unchanged: the model preprocesses the square."""
        return image

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        fitted = [self._square(image) for image in images]
        found = self.model.predict([square for square, _ in fitted])
        return [
            Prediction(_stretch(labels[y1:y2, x1:x2], image.shape[:2]), scores)
            for image, (_, (y1, x1, y2, x2)), (labels, scores) in zip(images, fitted, found, strict=True)
        ]

    def observe(self, images: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Returns the probabilities of a U-Net at each image's own size; see `NucleusModel.observe`."""
        fitted = [self._square(image) for image in images]
        seen = self.model.observe([self.model.prepare(square) for square, _ in fitted])
        evidence = []
        for image, (_, (y1, x1, y2, x2)), looks in zip(images, fitted, seen, strict=True):
            cut = (np.ascontiguousarray(look[y1:y2, x1:x2]) for look in looks)
            evidence.append([resize_probabilities(look, image.shape[:2]) for look in cut])
        return evidence

    def describe(self) -> dict[str, Any]:
        """Adds the square's side; see `NucleusModel.describe`."""
        return {**super().describe(), "side": self.side}

    def _square(self, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int, int, int]]:
        square, window, *_ = resize_image(image, self.side, self.side)
        return square, window


def _stretch(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Brings a label image to another size: every pixel takes the label at its centre."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(shape, labels.shape, strict=True)
    )
    return labels[rows[:, None], columns]
