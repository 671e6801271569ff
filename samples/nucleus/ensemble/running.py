"""An ensemble over many images: the files that detection writes, and which member each nucleus is from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from nucleus.datasets.dataset import NucleusDataset
from nucleus.ensemble.ensemble_model import EnsembleModel
from nucleus.ensemble.examples import Finder
from nucleus.ensemble.report import share
from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.limits import warn_of_limits
from nucleus.models.portable import PortableModel
from nucleus.prediction.chunks import Item, Predict, predict_singly
from nucleus.prediction.cluster import Cluster
from nucleus.prediction.detection import DetectionRun, write_detections
from nucleus.prediction.predictions import ModelPredictions
from nucleus.prediction.remote import Remote
from nucleus.prediction.results import Results
from nucleus.prediction.writers import Record, default_formats
from nucleus.prediction.writers.csv_tables import CsvTables
from nucleus.prediction.writers.tables import Table

PICKS_COLUMNS = ("ImageId", "label", "member")


class EnsemblePredictions(ModelPredictions):
    """Nuclei that an ensemble chooses when they are asked for, and the member that each is from.

    Args:
        model: The fitted ensemble.
        out_of_fold: True for the images of its fit, each by an ensemble that has not seen the image's fold.

    Attributes:
        model: The ensemble.
        picks: By image id, the member that each nucleus is from, in the order of the labels.

    Raises:
        ValueError: The ensemble was not fitted in this process, so nothing out of fold is known.
    """

    def __init__(self, model: EnsembleModel, out_of_fold: bool = False) -> None:
        super().__init__(model, EnsembleModel.kind)
        self.model = model
        self.picks: dict[str, Sequence[str]] = {}
        self._validation = model.cross_validation if out_of_fold else None
        if out_of_fold and self._validation is None:
            raise ValueError("Predictions out of fold are known after fit() alone.")

    def find(self, image_id: str, image: np.ndarray) -> Prediction:
        """Finds the nuclei of one image; see `ModelPredictions.find`.

        Args:
            image_id: Name of the image in its data set.
            image: uint8 `[H, W, 3]` RGB, as read.

        Raises:
            ValueError: A member that is a folder lacks the image, or the image was not among those of the fit.
        """
        validation = self._validation
        found = self.model.combine(image, image_id) if validation is None else validation.combine(image_id)
        self.picks[image_id] = found.picked
        return Prediction(found.labels, found.scores)

    def read_each(self, dataset: NucleusDataset, indices: Sequence[int]) -> Iterator[Prediction]:
        """Finds the nuclei of one image after the other; see `ModelPredictions.read_each`."""
        for index in indices:
            info = dataset.image_info[index]
            with warn_of_limits(info["path"]):
                found = self.find(info["id"], dataset.load_image(index))
            yield found

    def on(self, cluster: Cluster) -> Remote:
        """Returns the prediction by the ensemble on a cluster.

        Args:
            cluster: The cluster, entered.

        Raises:
            ValueError: The ensemble cannot be sent, or the predictions are out of fold, which this process has.
        """
        if self._validation is not None:
            raise ValueError("Predictions out of fold are known after fit() in this process, not to workers.")

        def note(item: Item) -> None:
            self.picks[item.id] = item.note

        return Remote(cluster, partial(_start, PortableModel(self.model).pack()), after=note)

    def shares(self) -> pd.DataFrame:
        """Returns the number and the share of each member's nuclei so far; see `nucleus.ensemble.report.share`."""
        counts = pd.Series([member for picked in self.picks.values() for member in picked], dtype=object).value_counts()
        return share({member: int(counts.get(member, 0)) for member in self.model.members})


def run_ensemble(
    predictions: EnsemblePredictions,
    dataset: NucleusDataset,
    output: str | os.PathLike | Results,
    formats: Sequence[str] = default_formats(),
    cluster: Cluster | None = None,
) -> tuple[DetectionRun, pd.DataFrame]:
    """Finds the nuclei in every image of a data set and writes the results.

    Args:
        predictions: Predictions of the ensemble.
        dataset: Prepared data set without preprocessing.
        output: Folder of the results of `nucleus.prediction.detection.write_detections`, with predicted IoU
            as scores, and `picks.csv`: ImageId, label and member of each nucleus.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        cluster: Workers that predict, entered, unless predictions are out of fold; None to predict in this process.

    Returns:
        The run, and for each member the number and the share of its nuclei, see `nucleus.ensemble.report.share`.

    Raises:
        DatasetError: The data set preprocesses its images.
        OSError: A result cannot be written.
    """
    picks = partial(_Picks, picked=predictions.picks)
    remote = None if cluster is None else predictions.on(cluster)
    run = write_detections(predictions.find, dataset, output, formats, more=[picks], remote=remote)
    return run, predictions.shares()


def find_members_on(cluster: Cluster, model: EnsembleModel, dataset: NucleusDataset) -> dict[str, Finder]:
    """Returns what finds, on a cluster, the nuclei of the members that run, for `EnsembleModel.elsewhere`.

    Args:
        cluster: The cluster, entered.
        model: The ensemble.
        dataset: Prepared data set, whose images are asked for in their order.

    Raises:
        ValueError: A member cannot be sent.
    """
    indices = [int(index) for index in dataset.image_ids]

    def finder(member: NucleusModel, name: str) -> Finder:
        remote = Remote(cluster, partial(_start_singly, PortableModel(member).pack()))
        found = ModelPredictions(member, name, remote=remote).read_each(dataset, indices)
        return lambda *_: next(found)

    return {name: finder(member, name) for name, member in model.members.items() if isinstance(member, NucleusModel)}


def _start_singly(model: PortableModel, _: NucleusDataset) -> Predict:
    """Returns what predicts the images of a chunk one by one."""
    return predict_singly(ModelPredictions(model.get()).find)


def _start(model: PortableModel, _: NucleusDataset) -> Predict:
    """Returns what predicts a chunk by an ensemble, and notes the member that each nucleus is from."""
    predictions = EnsemblePredictions(model.get())
    predict = predict_singly(predictions.find)

    def predict_and_note(chunk: Sequence[Item]) -> None:
        predict(chunk)
        for item in chunk:
            item.note = predictions.picks.get(item.id)

    return predict_and_note


class _Picks(CsvTables):
    """The member that each nucleus is from, `picks.csv`.

    Args:
        folder: Folder to write into.
        picked: By image id, the member of each nucleus in the order of the labels.
    """

    def __init__(self, folder: Path, picked: Mapping[str, Sequence[str]]) -> None:
        def rows(record: Record) -> pd.DataFrame:
            found = [(record.id, label, member) for label, member in enumerate(picked[record.id], start=1)]
            return pd.DataFrame(found, columns=PICKS_COLUMNS)

        self.tables = (Table("picks", PICKS_COLUMNS, rows),)
        super().__init__(folder)
