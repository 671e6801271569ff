"""Predictions that were written before, by `nucleus detect` or by any other program."""

from __future__ import annotations

import logging
import math
import os
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.label_index import LabelIndex
from nucleus.datasets.layouts.drawn_files import read_any_labels
from nucleus.datasets.layouts.label_files import BinaryMaskWatch, close_gaps
from nucleus.datasets.layouts.tables import read_table
from nucleus.models.base import Prediction
from nucleus.prediction.manifest import require_finished
from nucleus.prediction.writers.csv_tables import NUCLEI_FILE
from nucleus.prediction.writers.labels import LABELS_FOLDER

_log = logging.getLogger(__name__)
# Highest label of an int32 label image.
_HIGHEST_LABEL = 2**31 - 1


class PredictionFolder:
    """Label images of one model, in one or several folders, and their scores.

    Names of label images are those that `nucleus.datasets.label_index.LabelIndex` knows. Scores are in the table
    `nuclei.csv` beside a folder called `labels`, as `nucleus detect` writes them, and there is one rule for them:

    * where there is no table, no nucleus has a score: scores of ranked predictions are not computed, and an ensemble,
      which needs scores, takes 1 for each and a warning says so;
    * a table must hold exactly the nuclei of the label images, and either all folders of a model have a table or none
      has: anything else is refused, since scores of other nuclei, or of some only, would give wrong numbers.

    Args:
        folders: A folder of label images, or one that `nucleus detect` wrote; or several of one model, such as one
            for each fold of a cross-validation, with each image in one of them.
        name: Name of the model in tables and pictures; by default that of the (first) folder, or that of the folder
            around it where it is the `labels` of `nucleus detect`.

    Raises:
        DatasetError: A folder is missing, only some have a table of scores, or a table is malformed.
    """

    def __init__(self, folders: str | os.PathLike | Sequence[str | os.PathLike], name: str | None = None) -> None:
        paths = [folders] if isinstance(folders, str | os.PathLike) else folders
        self.source = ", ".join(map(str, paths))
        images = [label_folder(Path(path)) for path in paths]
        self.name = name or (images[0].resolve().parent if _is_detects(images[0]) else images[0].resolve()).name
        tables = {folder: _find_table(folder) for folder in images}
        without = [folder for folder, table in tables.items() if table is None]
        if without and len(without) < len(tables):
            raise DatasetError(
                f"{without[0]}: has no {NUCLEI_FILE} beside it, as other folders of the same model have. Either all "
                "nuclei of a model have scores or none has."
            )
        self._tables = {folder: table for folder, table in tables.items() if table is not None}
        self._scores = {folder: read_scores(table) for folder, table in self._tables.items()}
        self._index = LabelIndex(*images)
        self._binary_masks = BinaryMaskWatch()
        self._warned = False
        self._dataset: NucleusDataset | None = None
        self._known: Collection[str] = ()

    def require(self, dataset: NucleusDataset) -> None:
        """Names the first image that has not one label image; see `Predictions.require`."""
        ids = self._ids(dataset)
        for image_id in ids:
            self._index.find(image_id, ids)

    def read(self, dataset: NucleusDataset, index: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Reads a label image and its scores; see `nucleus.prediction.predictions.Predictions.read`.

        Args:
            dataset: Prepared data set with label images.
            index: Number of the image.

        Raises:
            DatasetError: There is none or several, it has another size than its image, or scores do not fit.
            nucleus.images.reading.ImageFileError: It cannot be read.
        """
        truth, _ = dataset.load_labels(index)
        return self._read(dataset.image_info[index]["id"], truth.shape, self._ids(dataset))

    def read_each(
        self, dataset: NucleusDataset, indices: Sequence[int]
    ) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
        """Reads several label images, one after the other; see `read`."""
        return (self.read(dataset, index) for index in indices)

    def find(self, image_id: str, image: np.ndarray) -> Prediction:
        """Reads the prediction for an image; without known scores each nucleus has 1.

        Args:
            image_id: Name of the image in its data set.
            image: uint8 `[H, W, 3]`, the image.

        Raises:
            DatasetError: There is none or several, it has another size than its image, or scores do not fit.
            nucleus.images.reading.ImageFileError: It cannot be read.
        """
        labels, scores = self._read(image_id, image.shape[:2])
        if scores is not None:
            return Prediction(labels, scores)
        if not self._warned:
            self._warned = True
            _log.warning("%s: no scores, for want of a %s: each nucleus counts as scored 1", self.source, NUCLEI_FILE)
        return Prediction(labels, np.ones(labels.max(initial=0), np.float32))

    def _read(
        self, image_id: str, shape: tuple[int, ...], among: Collection[str] = ()
    ) -> tuple[np.ndarray, np.ndarray | None]:
        path = self._index.find(image_id, among)
        labels = read_any_labels(path, (shape[0], shape[1]), image_id)
        if not self._scores:
            self._binary_masks.look(path, labels)
            return close_gaps(labels), None
        numbers = np.unique(labels[labels > 0]).tolist()
        scores = self._scores[path.parent].get(image_id, {})
        if scores.keys() != set(numbers):
            raise DatasetError(
                f"{path}: has {len(numbers)} nuclei, which are not the {len(scores)} of {self._tables[path.parent]}. "
                "Remove the table to use the label images without scores."
            )
        return close_gaps(labels), np.array([scores[number] for number in numbers], np.float32)

    def _ids(self, dataset: NucleusDataset) -> Collection[str]:
        """Returns the names of all images, collected once and not for every image."""
        if self._dataset is not dataset or len(self._known) != len(dataset.image_info):
            self._dataset, self._known = dataset, dict.fromkeys(info["id"] for info in dataset.image_info)
        return self._known


def label_folder(folder: Path) -> Path:
    """Returns the folder with the label images: the given one, or `labels` in what `nucleus detect` wrote.

    Args:
        folder: Folder of label images, or one that `nucleus detect` wrote.

    Raises:
        DatasetError: There is no such folder.
        ProvenanceError: It is that of a run that was killed, or still goes on.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: there is no such folder")
    images = folder / LABELS_FOLDER if (folder / LABELS_FOLDER).is_dir() else folder
    if _is_detects(images):
        require_finished(images.resolve().parent)
    return images


def _is_detects(images: Path) -> bool:
    """Returns True if a folder of label images lies where `nucleus detect` puts it."""
    whole = images.resolve()
    return whole.name == LABELS_FOLDER and whole.parent.name != ""


def _find_table(images: Path) -> Path | None:
    table = images.resolve().parent / NUCLEI_FILE
    return table if _is_detects(images) and table.is_file() else None


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
        if not 1 <= label <= _HIGHEST_LABEL:
            raise DatasetError(f"{path}, line {line}: a label is a whole number from 1 on; found {row['label']}")
        if not 0 <= score <= 1 or math.isnan(score):
            raise DatasetError(f"{path}, line {line}: a score lies in 0..1; found {row['score']}")
        if label in scores[row["ImageId"]]:
            raise DatasetError(f"{path}, line {line}: label {label} of {row['ImageId']} occurs twice")
        scores[row["ImageId"]][label] = score
    return scores
