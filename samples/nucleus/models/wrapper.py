"""The base class of models around another model: test-time augmentation, scale, tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nucleus.models.base import History, NucleusModel, Prediction
from nucleus.models.views import View

if TYPE_CHECKING:
    import os

    import keras

    from nucleus.datasets.dataset import NucleusDataset
    from trainkit.search import TuningReport


class Wrapper(NucleusModel):
    """A model around another one, to which it delegates everything that a subclass does not override.

    Args:
        model: The wrapped model.
    """

    def __init__(self, model: NucleusModel):
        self.model = model
        self.config = model.config

    def fit(
        self,
        train: NucleusDataset,
        val: NucleusDataset | None,
        *,
        epochs: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> History:
        """Fits the wrapped model, on unchanged images; see `NucleusModel.fit`."""
        return self.model.fit(train, val, epochs=epochs, callbacks=callbacks)

    def _tune(self, shown: NucleusModel, dataset: NucleusDataset, *how: Any) -> TuningReport:
        return self.model._tune(shown, dataset, *how)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the wrapped model, whose settings describe the wrapper; see `NucleusModel.save`."""
        self.model.save(path)

    def describe(self) -> dict[str, Any]:
        """Describes the wrapper and the model in it; see `NucleusModel.describe`."""
        return {"kind": type(self).__name__, "model": self.model.describe()}

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Preprocesses an image once, before the wrapper changes it; see `NucleusModel.prepare`."""
        return self.model.prepare(image)

    @property
    def needs_whole_images(self) -> bool:
        """True if images cannot be preprocessed by regions; see `NucleusModel.needs_whole_images`."""
        return self.model.needs_whole_images

    def preparation(self, sample: Callable[[], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        """Returns the wrapped model's preprocessing of regions; see `NucleusModel.preparation`."""
        return self.model.preparation(sample)

    def observe(self, images: Sequence[np.ndarray]) -> list[list[Any]]:
        """Returns the evidence of the wrapped model; see `NucleusModel.observe`."""
        return self.model.observe(images)

    def restore(self, evidence: Any, view: View, shape: tuple[int, int]) -> Any:
        """Maps evidence from a view of an image back to the image; see `NucleusModel.restore`."""
        return self.model.restore(evidence, view, shape)

    def conclude(self, evidence: Sequence[Any], shape: tuple[int, int]) -> Prediction:
        """Merges all evidence of an image into one prediction; see `NucleusModel.conclude`."""
        return self.model.conclude(evidence, shape)
