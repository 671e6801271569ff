"""An ensemble over many images: the files that detection writes, and which member each nucleus is from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from nucleus.datasets.dataset import NucleusDataset
from nucleus.ensemble.examples import Example, Finder
from nucleus.ensemble.fitting import Fitted
from nucleus.ensemble.model import Combination, Ensemble, check_members
from nucleus.ensemble.report import share
from nucleus.models.base import Prediction
from nucleus.prediction.detection import DetectionRun, write_detections
from nucleus.prediction.results import Results
from nucleus.prediction.writers import Record, default_formats
from nucleus.prediction.writers.base import TableWriter

PICKS_COLUMNS = ("ImageId", "label", "member")


def run_ensemble(
    ensemble: Ensemble,
    members: Mapping[str, Finder],
    dataset: NucleusDataset,
    output: str | os.PathLike | Results,
    formats: Sequence[str] = default_formats(),
    progress: bool = True,
) -> tuple[DetectionRun, pd.DataFrame]:
    """Finds the nuclei in every image of a dataset and writes the results.

    Args:
        ensemble: Ensemble fitted with these members.
        members: Name -> function that finds the nuclei of an image.
        dataset: Prepared data set without preprocessing.
        output: Folder of the results of `nucleus.prediction.detection.write_detections`, with predicted IoU
            as scores, and `picks.csv`: ImageId, label and member of each nucleus.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        progress: True to show a progress bar.

    Returns:
        The run, and for each member the number and the share of its nuclei, see `nucleus.ensemble.report.share`.

    Raises:
        ValueError: The members are not the ensemble's.
        DatasetError: The dataset preprocesses its images.
        OSError: A result cannot be written.
    """
    check_members(ensemble.members, members)

    def combine(image_id: str, image: np.ndarray) -> Combination:
        return ensemble.combine(image, {name: find(image_id, image) for name, find in members.items()})

    return _write(combine, ensemble.members, dataset, output, formats, progress)


def write_out_of_fold(
    examples: list[Example],
    fitted: Fitted,
    dataset: NucleusDataset,
    output: str | os.PathLike | Results,
    formats: Sequence[str] = default_formats(),
    progress: bool = True,
) -> tuple[DetectionRun, pd.DataFrame]:
    """Writes out-of-fold predictions, for scores and reports of the images that an ensemble was fitted to.

    Args:
        examples: Examples that the ensemble was fitted to.
        fitted: Result of the fit.
        dataset: Data set that the examples were made from.
        output: Folder of the results.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        progress: True to show a progress bar.

    Returns:
        The run, and for each member the number and the share of its nuclei, see `nucleus.ensemble.report.share`.

    Raises:
        OSError: A result cannot be written.
    """
    rows = zip(examples, fitted.quality, fitted.rules, strict=True)
    found = {example.id: rules.combine(example.candidates, quality) for example, quality, rules in rows}
    return _write(lambda image_id, _: found[image_id], fitted.ensemble.members, dataset, output, formats, progress)


def _write(
    combine: Callable[[str, np.ndarray], Combination],
    members: tuple[str, ...],
    dataset: NucleusDataset,
    output: str | os.PathLike | Results,
    formats: Sequence[str],
    progress: bool,
) -> tuple[DetectionRun, pd.DataFrame]:
    picked: dict[str, Sequence[str]] = {}
    writers: list[_Picks] = []

    def find(image_id: str, image: np.ndarray) -> Prediction:
        found = combine(image_id, image)
        picked[image_id] = found.picked
        return Prediction(found.labels, found.scores)

    def write_picks(folder: Path) -> _Picks:
        writers.append(_Picks(folder, picked))
        return writers[0]

    run = write_detections(find, dataset, output, formats, progress, [write_picks])
    return run, share(writers[0].counts(members))


class _Picks(TableWriter):
    """The member that each nucleus is from, `picks.csv`.

    Args:
        folder: Folder to write into.
        picked: By image id, the member of each nucleus in the order of the labels.
    """

    name = "picks.csv"
    columns = PICKS_COLUMNS

    def __init__(self, folder: Path, picked: Mapping[str, Sequence[str]]) -> None:
        super().__init__(folder)
        self._picked = picked

    def table(self, record: Record) -> pd.DataFrame:
        """Returns one row a nucleus of an image."""
        rows = [(record.id, label, member) for label, member in enumerate(self._picked[record.id], start=1)]
        return pd.DataFrame(rows, columns=PICKS_COLUMNS)

    def counts(self, members: Sequence[str]) -> dict[str, int]:
        """Returns the number of nuclei from each member."""
        found = [name for rows in self._tables.values() for name in rows["member"]]
        return {member: found.count(member) for member in members}
