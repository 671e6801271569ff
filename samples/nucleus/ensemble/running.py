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
from nucleus.prediction.detection import DetectionRun, write_detections
from nucleus.prediction.writers import default_formats
from trainkit.files import write_text

PICKS_COLUMNS = ("ImageId", "label", "member")


def run_ensemble(
    ensemble: Ensemble,
    members: Mapping[str, Finder],
    dataset: NucleusDataset,
    output: str | os.PathLike,
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
    output: str | os.PathLike,
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
    output: str | os.PathLike,
    formats: Sequence[str],
    progress: bool,
) -> tuple[DetectionRun, pd.DataFrame]:
    picks: list[tuple[str, int, str]] = []

    def find(image_id: str, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = combine(image_id, image)
        picks.extend((image_id, label, member) for label, member in enumerate(found.picked, start=1))
        return found.labels, found.scores

    run = write_detections(find, dataset, output, formats, progress)
    table = pd.DataFrame(picks, columns=PICKS_COLUMNS)
    if run.images:
        write_text(Path(output) / "picks.csv", table.to_csv(index=False, lineterminator="\n"))
    counts = table["member"].value_counts()
    return run, share({member: int(counts.get(member, 0)) for member in members})
