"""Where predicted nuclei come from: a model that runs now, or label images that were written before."""

from __future__ import annotations

import logging
import math
import os
import zlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.label_index import LabelIndex
from nucleus.datasets.layouts.label_files import BinaryMaskWatch
from nucleus.datasets.layouts.tables import read_table
from nucleus.images.reading import read_labels

# Where `nucleus detect` puts label images, and the table beside that folder that holds their scores.
LABELS_FOLDER, NUCLEI_FILE = "labels", "nuclei.csv"

_logger = logging.getLogger(__name__)


class Predictions(Protocol):
    """Predicted nuclei for the images of a data set.

    Attributes:
        name: What tables and pictures call them.
        source: The file or folder that they come from; "" where there is none.
    """

    name: str
    source: str

    def require(self, dataset: NucleusDataset) -> None:
        """Makes sure, before long work, that there is a prediction for every image; raises DatasetError otherwise."""

    def read(self, dataset: NucleusDataset, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Returns the nuclei of image `index` of the data set.

        Returns:
            labels: Integer `[H, W]`, of the size of the image.
            scores: float `[N]`, of the labels that occur, ascending; None where they are not known.
        """


class ModelPredictions:
    """What a model finds.

    Args:
        model: A nucleus model.
        name: What tables and pictures call it.
        source: The file of its weights.
    """

    def __init__(self, model: Any, name: str = "model", source: str | os.PathLike = "") -> None:
        self.name, self.source = name, str(source)
        self._model = model

    def require(self, dataset: NucleusDataset) -> None:
        """Refuses a data set that preprocesses its images, which prediction does itself."""
        if dataset.preprocessing is not None:
            raise DatasetError("Prediction preprocesses images itself: evaluate on a dataset without preprocessing.")

    def read(self, dataset: NucleusDataset, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Predicts; see `Predictions.read`."""
        return self._model.predict(dataset.load_image(index))[0]


class PredictionFolder:
    """Label images, written by this project or by any other; `nucleus.datasets.label_index.LabelIndex` tells their names.

    Those of `nucleus detect` have scores, in its `nuclei.csv`. Where the labels there are others than those of an
    image, a warning says so, and no image has scores.

    Args:
        folder: Holds the label images, or what `nucleus detect` wrote.
        name: What tables and pictures call them; by default the folder's name, or that of the folder around it
            where the folder is the `labels` of `nucleus detect`.

    Raises:
        DatasetError: The table of scores is malformed.
    """

    def __init__(self, folder: str | os.PathLike, name: str | None = None) -> None:
        self.source = str(folder)
        self.folder = Path(folder)
        if (self.folder / LABELS_FOLDER).is_dir():
            self.folder /= LABELS_FOLDER
        whole = self.folder.resolve()
        written_by_detect = whole.name == LABELS_FOLDER and whole.parent.name != ""
        self.name = name or (whole.parent.name if written_by_detect else whole.name)
        self._binary_masks = BinaryMaskWatch()
        self._dataset: NucleusDataset | None = None
        self._known: Collection[str] = ()
        self._table = whole.parent / NUCLEI_FILE
        self._scores = read_scores(self._table) if written_by_detect and self._table.is_file() else None

    def require(self, dataset: NucleusDataset) -> None:
        """Names the first image that has not one label image."""
        if not self.folder.is_dir():
            raise DatasetError(f"{self.folder}: there is no such folder")
        ids = self._ids(dataset)
        for image_id in ids:
            self._index.find(image_id, ids)

    def read(self, dataset: NucleusDataset, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Reads a label image; see `Predictions.read`.

        Raises:
            DatasetError: There is none or several, or it has another size than its image.
            nucleus.images.reading.ImageFileError: It cannot be read.
        """
        image_id = dataset.image_info[index]["id"]
        path = self._index.find(image_id, self._ids(dataset))
        labels = read_labels(path)
        if self._scores is None:
            self._binary_masks.look(path, labels)
        truth, _ = dataset.load_labels(index)
        if labels.shape != truth.shape:
            raise DatasetError(f"{path}: has {labels.shape} pixels, its image {truth.shape}")
        return labels, self._scores_of(image_id, labels)

    def _ids(self, dataset: NucleusDataset) -> Collection[str]:
        """Returns the names of all images, collected once and not for every image."""
        if self._dataset is not dataset or len(self._known) != len(dataset.image_info):
            self._dataset, self._known = dataset, dict.fromkeys(info["id"] for info in dataset.image_info)
        return self._known

    @cached_property
    def _index(self) -> LabelIndex:
        return LabelIndex(self.folder)

    def _scores_of(self, image_id: str, labels: np.ndarray) -> np.ndarray | None:
        if self._scores is None:
            return None
        ids = np.unique(labels[labels > 0]).tolist()
        scores = self._scores.get(image_id, {})
        if scores.keys() != set(ids):
            _logger.warning(
                "%s: no scores, since those of %s in %s are of other nuclei", self.folder, image_id, self._table
            )
            self._scores = None
            return None
        return np.array([scores[label] for label in ids], np.float64)


class KeptPredictions:
    """Predictions that are made or read once, and kept in memory in little space.

    Args:
        predictions: Where they come from.
    """

    def __init__(self, predictions: Predictions) -> None:
        self.name, self.source = predictions.name, predictions.source
        self._predictions = predictions
        self._kept: dict[int, tuple[bytes, np.dtype, tuple[int, ...], np.ndarray | None]] = {}

    def require(self, dataset: NucleusDataset) -> None:
        """See `Predictions.require`."""
        self._predictions.require(dataset)

    def read(self, dataset: NucleusDataset, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Predictions.read`; all calls must be with one data set."""
        if index not in self._kept:
            labels, scores = self._predictions.read(dataset, index)
            self._kept[index] = zlib.compress(np.ascontiguousarray(labels), 1), labels.dtype, labels.shape, scores
        packed, dtype, shape, scores = self._kept[index]
        return np.frombuffer(zlib.decompress(packed), dtype).reshape(shape), scores


def require_distinct_names(names: Sequence[str]) -> None:
    """Makes sure that tables and pictures can tell models apart.

    Raises:
        ValueError: Two have one name.
    """
    twice = next((name for name in names if list(names).count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"Two models are called {twice!r}. Give them names: --predictions NAME=FOLDER")


def read_scores(path: Path) -> dict[str, dict[int, float]]:
    """Reads the scores of a `nuclei.csv`.

    Args:
        path: The file, with the columns ImageId, label and score.

    Returns:
        The scores, 0..1, by image and label.

    Raises:
        DatasetError: It is missing or malformed.
    """
    scores: dict[str, dict[int, float]] = defaultdict(dict)
    for line, row in read_table(path, ("ImageId", "label", "score")):
        try:
            label, score = int(row["label"]), float(row["score"])
        except ValueError as error:
            raise DatasetError(f"{path}, line {line}: expected a whole number and a score ({error})") from error
        if not 0 <= score <= 1 or math.isnan(score):
            raise DatasetError(f"{path}, line {line}: a score lies in 0..1; found {row['score']}")
        if label in scores[row["ImageId"]]:
            raise DatasetError(f"{path}, line {line}: label {label} of {row['ImageId']} occurs twice")
        scores[row["ImageId"]][label] = score
    return scores
