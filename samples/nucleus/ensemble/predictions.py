"""Predictions that a model has written before, read again as members of an ensemble."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nucleus.datasets.dataset import DatasetError
from nucleus.datasets.label_index import LabelIndex
from nucleus.datasets.layouts.label_files import BinaryMaskWatch
from nucleus.images.labels import relabel_sequential
from nucleus.images.reading import read_labels
from nucleus.prediction.predictions import LABELS_FOLDER, NUCLEI_FILE, read_scores


class PredictionFolders:
    """The label images and scores of one model.

    Args:
        folders: What `nucleus detect` wrote (`labels/<ImageId>.png` or .tif, and `nuclei.csv` with their scores; its
            folder `labels` means the same), or folders of label images by any program (named as
            `nucleus.datasets.label_index` tells), whose nuclei all count as scored 1. Several are those of one model, such as
            one for each fold of a cross-validation: each image is in one of them.

    Raises:
        DatasetError: A folder is missing, or its table of nuclei is missing or malformed.
    """

    def __init__(self, folders: Sequence[str | os.PathLike]):
        self.folders = [_Folder(Path(folder)) for folder in folders]
        self._binary_masks = BinaryMaskWatch()

    def find(self, image_id: str) -> tuple[np.ndarray, np.ndarray]:
        """Reads the prediction for an image.

        Args:
            image_id: Its name in the data set.

        Returns:
            (labels int32 `[H, W]` with labels 1..N, scores float32 `[N]`).

        Raises:
            DatasetError: There is none, there are several, or its nuclei are not those of the table.
            nucleus.images.reading.ImageFileError: The label image cannot be read.
        """
        found = [(folder, path) for folder in self.folders for path in folder.index.files(image_id)]
        if not found:
            names = ", ".join(str(folder.images) for folder in self.folders)
            raise DatasetError(f"{names}: no label image {image_id}.png (or .tif, .tiff)")
        if len(found) > 1:
            raise DatasetError(f"{found[0][1]}: the same image is predicted by {found[1][1]} too")
        folder, path = found[0]
        labels = read_labels(path)
        if not folder.written_by_detect:
            self._binary_masks.look(path, labels)
        numbers = np.flatnonzero(np.bincount(labels.ravel(), minlength=1)[1:]) + 1
        return relabel_sequential(labels)[0], folder.scores(image_id, numbers, path)


class _Folder:
    def __init__(self, path: Path):
        if not path.is_dir():
            raise DatasetError(f"{path}: there is no such folder of predictions")
        around = path.resolve().parent
        if path.resolve().name == LABELS_FOLDER and (around / NUCLEI_FILE).is_file():
            path = around
        self.written_by_detect = (path / LABELS_FOLDER).is_dir()
        self.images = path / LABELS_FOLDER if self.written_by_detect else path
        self.table = path / NUCLEI_FILE
        self.index = LabelIndex(self.images)
        self._scores = read_scores(self.table) if self.written_by_detect else {}

    def scores(self, image_id: str, numbers: np.ndarray, path: Path) -> np.ndarray:
        if not self.written_by_detect:
            return np.ones(len(numbers), np.float32)
        scores = self._scores.get(image_id, {})
        if scores.keys() != set(numbers.tolist()):
            raise DatasetError(f"{path}: has {len(numbers)} nuclei, which are not the {len(scores)} of {self.table}")
        return np.array([scores[number] for number in numbers.tolist()], np.float32)
