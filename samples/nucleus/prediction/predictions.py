"""Predictions for a data set: what evaluation, reports and ensembles read, from a model that runs or from files."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.models.base import NucleusModel, Prediction
from nucleus.prediction.chunks import Item, predict_together, read_ahead, read_chunks

if TYPE_CHECKING:
    from nucleus.prediction.remote import Remote


class Predictions(Protocol):
    """Predicted nuclei for the images of a data set.

    Attributes:
        name: Name of the model in tables and pictures.
        source: The file or folder that the predictions come from; "" where there is none.
    """

    name: str
    source: str

    def require(self, dataset: NucleusDataset) -> None:
        """Makes sure, before long work, that there is a prediction for every image; raises DatasetError otherwise."""

    def read(self, dataset: NucleusDataset, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the nuclei of one image.

        Args:
            dataset: Prepared data set without preprocessing.
            index: Position of the image in `dataset.image_info`.

        Returns:
            labels: int32 `[H, W]` of the size of the image, 0 background, 1..N one nucleus each.
            scores: float32 `[N]` in 0..1; `scores[k]` belongs to label k + 1. None where they are not known.
        """

    def read_each(
        self, dataset: NucleusDataset, indices: Sequence[int]
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yields the nuclei of several images in their order, see `read`; a model predicts them in batches."""


class ModelPredictions:
    """Nuclei that a model finds when they are asked for.

    Args:
        model: The model.
        name: Name of the model in tables and pictures.
        source: The file of its weights.
        remote: Prediction by the model in other processes; None to predict in this one.
    """

    def __init__(
        self,
        model: NucleusModel,
        name: str = "model",
        source: str | os.PathLike = "",
        remote: Remote | None = None,
    ) -> None:
        self.name, self.source = name, str(source)
        self._model = model
        self._remote = remote

    def require(self, dataset: NucleusDataset) -> None:
        """Refuses a data set that preprocesses its images, since models preprocess images themselves."""
        if dataset.preprocessing is not None:
            raise DatasetError("Prediction preprocesses images itself: evaluate on a dataset without preprocessing.")

    def read(self, dataset: NucleusDataset, index: int) -> Prediction:
        """Predicts, and warns where a limit of the model is reached; see `Predictions.read`."""
        return next(self.read_each(dataset, [index]))

    def read_each(self, dataset: NucleusDataset, indices: Sequence[int]) -> Iterator[Prediction]:
        """Predicts images in batches, while a thread reads the next ones; see `Predictions.read_each`."""
        infos = ((index, dataset.image_info[index]) for index in indices)
        items = (Item(index, info["id"], info["path"]) for index, info in infos)
        for chunk in self._predicted(items, dataset):
            for item in chunk:
                if item.error is not None:
                    raise item.error
                yield item.prediction

    def _predicted(self, items: Iterator[Item], dataset: NucleusDataset) -> Iterator[list[Item]]:
        if self._remote is not None:
            yield from self._remote.chunks(items, dataset)
            return
        predict = predict_together(self._model, dataset.pixel_size_of)
        for chunk in read_ahead(read_chunks(items, dataset.load_image)):
            predict(chunk)
            yield chunk

    def find(self, _: str, image: np.ndarray) -> Prediction:
        """Finds the nuclei of one image.

        Args:
            _: The image's id, which makes no difference.
            image: uint8 `[H, W, 3]` RGB, as read.
        """
        return self._model.predict(image)[0]


class KeptPredictions:
    """Predictions that are made or read once, and kept in memory in little space.

    Args:
        predictions: The predictions to keep.
    """

    def __init__(self, predictions: Predictions) -> None:
        self.name, self.source = predictions.name, predictions.source
        self._predictions = predictions
        self._kept: dict[int, tuple[bytes, np.dtype, tuple[int, ...], np.ndarray | None]] = {}

    def require(self, dataset: NucleusDataset) -> None:
        """Asks the kept predictions; see `Predictions.require`."""
        self._predictions.require(dataset)

    def read(self, dataset: NucleusDataset, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the kept nuclei; see `Predictions.read`. All calls must be with one data set."""
        return next(self.read_each(dataset, [index]))

    def read_each(
        self, dataset: NucleusDataset, indices: Sequence[int]
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Yields the kept nuclei, and gets those that are not kept yet; see `Predictions.read_each`."""
        missing = self._predictions.read_each(dataset, [index for index in indices if index not in self._kept])
        for index in indices:
            if index not in self._kept:
                labels, scores = next(missing)
                self._kept[index] = zlib.compress(np.ascontiguousarray(labels), 1), labels.dtype, labels.shape, scores
            packed, dtype, shape, scores = self._kept[index]
            yield np.frombuffer(zlib.decompress(packed), dtype).reshape(shape), scores


def require_distinct_names(names: Sequence[str]) -> None:
    """Makes sure that tables and pictures can tell models apart.

    Args:
        names: Names of the models.

    Raises:
        ValueError: Two have one name.
    """
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"Two models are called {twice!r}. Give them names: --predictions NAME=FOLDER")
