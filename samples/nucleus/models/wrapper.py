"""The base of models that show another model something else than the image as it is, and are a model themselves."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.views import View


class Wrapper(NucleusModel):
    """A model around another one, which does all that the wrapper does not do otherwise.

    Args:
        model: The model that is wrapped.
    """

    def __init__(self, model: NucleusModel):
        self.model = model
        self.config = model.config

    def fit(self, train: Any, val: Any, *, epochs: int | None = None, callbacks: Sequence[Any] = ()) -> Any:
        """Trains the model that is wrapped, on images as they are; see `NucleusModel.fit`."""
        return self.model.fit(train, val, epochs=epochs, callbacks=callbacks)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the model that is wrapped, whose settings say how it is wrapped; see `NucleusModel.save`."""
        self.model.save(path)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Preprocesses an image once, before it is shown in whichever way; see `NucleusModel.prepare`."""
        return self.model.prepare(image)

    def observe(self, images: Sequence[np.ndarray]) -> list[list[Any]]:
        """Returns the evidence of the model that is wrapped; see `NucleusModel.observe`."""
        return self.model.observe(images)

    def restore(self, evidence: Any, view: View, shape: tuple[int, int]) -> Any:
        """Brings evidence from a view of an image back to the image; see `NucleusModel.restore`."""
        return self.model.restore(evidence, view, shape)

    def conclude(self, evidence: Sequence[Any], shape: tuple[int, int]) -> Prediction:
        """Makes one prediction of all evidence of an image; see `NucleusModel.conclude`."""
        return self.model.conclude(evidence, shape)
