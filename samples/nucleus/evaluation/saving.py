"""Scores of several models on one data set, with their files and a report: `nucleus evaluate` for Python users."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nucleus.datasets.dataset import NucleusDataset
from nucleus.evaluation.evaluation import Evaluation, evaluate_fully
from nucleus.evaluation.report.ranking import CSV_FILE, rank_sum_csv, rank_sums
from nucleus.evaluation.report.writing import write_report
from nucleus.evaluation.scores import DETECTION_IOU
from nucleus.prediction.predictions import KeptPredictions, Predictions, require_distinct_names
from trainkit.files import write_text


@dataclass(frozen=True)
class Comparison:
    """Scores of several models on the same images.

    Attributes:
        evaluations: Scores of each model.
        ranks: Ranks among the published entries of the GlaS challenge, see
            `nucleus.evaluation.report.ranking.rank_sums`; None for images of other data sets.
        report: The report's page; None if none was asked for.
    """

    evaluations: list[Evaluation]
    ranks: pd.DataFrame | None
    report: Path | None


def evaluate_all(
    predictions: Sequence[Predictions],
    dataset: NucleusDataset,
    output: str | os.PathLike,
    *,
    threshold: float = DETECTION_IOU,
    report: str | os.PathLike | None = None,
    description: str = "",
) -> Comparison:
    """Scores predictions of one or several models, writes the scores, and a report if asked for.

    Args:
        predictions: Predictions by models that run and from folders, with different names.
        dataset: Prepared data set with masks.
        output: Folder of the scores; see `save_evaluations`.
        threshold: IoU above which a nucleus counts as found, 0.5..1.
        report: Folder of the report; None for none.
        description: Description of the images in the report.

    Returns:
        The scores.

    Raises:
        DatasetError: An image has no prediction, or one of another size; or there is no image.
        ValueError: Two models have one name, or a prediction cannot be read.
        OSError: A file cannot be written.
    """
    # Missing predictions are reported before a model runs for long.
    for each in predictions:
        each.require(dataset)
    require_distinct_names([each.name for each in predictions])
    if report is not None:
        # The report's pictures show them once more.
        predictions = [KeptPredictions(each) for each in predictions]
    evaluations = [evaluate_fully(each, dataset, threshold) for each in predictions]
    # A name that a published entry has is refused before anything is written.
    ranks = rank_sums(evaluations)
    save_evaluations(evaluations, output)
    if ranks is not None:
        write_text(Path(output) / CSV_FILE, rank_sum_csv(ranks))
    page = None if report is None else write_report(report, dataset, evaluations, predictions, description)
    return Comparison(evaluations, ranks, page)


def save_evaluations(evaluations: Sequence[Evaluation], folder: str | os.PathLike) -> None:
    """Writes the scores of one model into a folder, or those of several each into a folder of its own in it.

    Args:
        evaluations: Evaluations with different names.
        folder: Destination; created if missing.

    Raises:
        OSError: A file cannot be written.
    """
    for evaluation, name in zip(evaluations, folder_names([each.name for each in evaluations]), strict=True):
        evaluation.save(Path(folder, name) if len(evaluations) > 1 else folder)


def folder_names(names: Sequence[str]) -> list[str]:
    """Returns a folder's name for each model, none twice: letters, digits, "_", "-" and "." of the model's name.

    Args:
        names: Names of the models.

    Examples:
        >>> folder_names(["U-Net", "a/b", "a b"])
        ['U-Net', 'a_b', 'a_b~2']
    """
    taken: list[str] = []
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", name)[:80].strip("._") or "model"
        same = sum(other.lower() == plain.lower() or other.lower().startswith(f"{plain.lower()}~") for other in taken)
        taken.append(f"{plain}~{same + 1}" if same else plain)
    return taken
