"""Scores predictions on images with ground truth: one row an image, and scores overall and by modality.

`evaluate` and `evaluate_predictions` compute the few scores that a training watches, in less than a millisecond an
image beyond the overlaps; `evaluate_fully` computes all of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.layouts.glas import challenge_part
from nucleus.evaluation.metrics import (
    DETECTION_IOU,
    THRESHOLDS,
    Glas,
    Overlaps,
    Scores,
    coco_scores,
    count_matches,
    count_pixels,
    nucleus_table,
    overlaps,
    score,
    score_average_precision,
    scores_by_group,
)
from nucleus.prediction.predictions import ModelPredictions, PredictionFolder, Predictions
from trainkit.files import write_text

_AT_050, _AT_075 = (int(np.flatnonzero(threshold == THRESHOLDS)[0]) for threshold in (0.5, 0.75))
_NO_PIXELS = np.zeros((0, 0), np.int32)


def evaluate(model: Any, dataset: NucleusDataset, progress: bool = True) -> pd.DataFrame:
    """Scores a model on every image of a dataset.

    Args:
        model: A nucleus model.
        dataset: Prepared, with masks and without preprocessing, which prediction does itself.
        progress: Shows a progress bar.

    Returns:
        One row an image: ImageId, modality, mAP (2018 Data Science Bowl: mean over IoU 0.5 to 0.95 of
        TP / (TP + FP + FN)), AP50 and AP75 (that quotient at one threshold), IoU (of all nuclei's pixels together),
        true (nuclei in the ground truth), predicted, and matched, missed and spurious at IoU 0.5.

    Raises:
        DatasetError: The dataset preprocesses its images, or has none.
    """
    return _main_scores(ModelPredictions(model), dataset, progress)


def evaluate_predictions(folder: str | os.PathLike, dataset: NucleusDataset, progress: bool = True) -> pd.DataFrame:
    """Scores label images that were written before, by this project or by any other.

    Args:
        folder: Holds `<ImageId>.png`, `.tif` or `.tiff` for every image of the dataset.
        dataset: Prepared, with masks.
        progress: Shows a progress bar.

    Returns:
        As `evaluate`.

    Raises:
        DatasetError: An image has no prediction, or the dataset has no image.
        ValueError: A prediction cannot be read, or has another size than its image.
    """
    return _main_scores(PredictionFolder(folder), dataset, progress)


@dataclass(frozen=True)
class Evaluation:
    """Every score of one model's predictions.

    Attributes:
        name: What tables and pictures call the model.
        threshold: IoU above which a nucleus counts as found, for precision, recall, F1, oseg and useg.
        images: One row an image: ImageId, modality, and what `nucleus.evaluation.metrics.Scores.values` names, but `images`.
        summary: Index: "all", then, where there are several, each modality. Columns: what
            `nucleus.evaluation.metrics.Scores.values` names; `detection_IoU`, the threshold; and, where the predictions have
            scores, COCO_AP, COCO_AP50, COCO_AP75 and COCO_AR (see `nucleus.evaluation.metrics.coco_scores`) and VOC_AP50 (the
            mean over images of `nucleus.evaluation.metrics.score_average_precision`).
        nuclei: One row a true nucleus: ImageId, modality, and the columns of `nucleus.evaluation.metrics.nucleus_table`.
        glas_parts: What the images of test parts A and B of the GlaS challenge add up to; None of other images, and of
            these where they are scaled: the challenge's distances are in pixels of its own files.
    """

    name: str
    threshold: float
    images: pd.DataFrame
    summary: pd.DataFrame
    nuclei: pd.DataFrame
    glas_parts: tuple[Glas, Glas] | None = None

    def save(self, folder: str | os.PathLike) -> None:
        """Writes `scores.csv` (one row an image) and `summary.json` (overall and by modality) into a folder."""
        save_scores(self.images, folder, self.summary)


def evaluate_fully(
    predictions: Predictions, dataset: NucleusDataset, threshold: float = DETECTION_IOU, progress: bool = True
) -> Evaluation:
    """Computes every score of predictions, overall, by image and by modality.

    Most of the time, a tenth of a second for an image of a hundred nuclei, goes into the Hausdorff distances of the
    GlaS challenge's scores.

    Args:
        predictions: Of every image.
        dataset: Prepared, with masks.
        threshold: IoU above which a nucleus counts as found, 0.5..1, for precision, recall, F1, oseg and useg.
        progress: Shows a progress bar.

    Returns:
        The `Evaluation`.

    Raises:
        DatasetError: An image has no prediction, or the dataset has no image.
        ValueError: A prediction cannot be read, has another size than its image, or the threshold is not in 0.5..1.
    """
    scored, nuclei, ranked = [], [], []
    for info, pair, confidences in _pairs(predictions, dataset, progress):
        scored.append((info, score(pair, threshold)))
        nuclei.append(nucleus_table(pair).assign(ImageId=info["id"], modality=info["modality"]))
        # COCO's score is one of all images together, and neither it nor the lineage's takes pixels.
        ranked.append((info["modality"], replace(pair, truth=_NO_PIXELS, predicted=_NO_PIXELS), confidences))
    rows = [{"ImageId": info["id"], "modality": info["modality"], **scores.values()} for info, scores in scored]
    groups = scores_by_group((info["modality"], scores) for info, scores in scored)
    summary = {
        name: {**scores.values(), "detection_IoU": threshold, **_ranked(ranked, None if name == "all" else name)}
        for name, scores in groups.items()
    }
    columns = ["ImageId", "modality"]
    table = pd.concat(nuclei, ignore_index=True)
    return Evaluation(
        name=predictions.name,
        threshold=threshold,
        images=pd.DataFrame(rows).drop(columns="images"),
        summary=_whole_numbers(pd.DataFrame.from_dict(summary, orient="index"), next(iter(summary.values()))),
        nuclei=table[columns + [name for name in table if name not in columns]],
        glas_parts=_glas_parts((info["masks"], scores) for info, scores in scored) if dataset.fit is None else None,
    )


def summarise(scores: pd.DataFrame) -> pd.DataFrame:
    """Averages over images, overall and by modality.

    Args:
        scores: From `evaluate`.

    Returns:
        Index: "all", then, where there are several, each modality. Columns: images, mAP, AP50, AP75, IoU (means
        over images), true, predicted, matched, missed, spurious (sums).
    """
    groups = [("all", scores)]
    if scores["modality"].nunique() > 1:
        groups += list(scores.groupby("modality"))
    means, sums = ["mAP", "AP50", "AP75", "IoU"], ["true", "predicted", "matched", "missed", "spurious"]
    rows = {name: {"images": len(rows), **rows[means].mean(), **rows[sums].sum()} for name, rows in groups}
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.astype({name: int for name in ["images", *sums]})


def save_scores(scores: pd.DataFrame, folder: str | os.PathLike, summary: pd.DataFrame | None = None) -> None:
    """Writes `scores.csv` (one row an image) and `summary.json` (overall and by modality).

    Args:
        scores: From `evaluate`.
        folder: Where to; created if missing.
        summary: Index: the groups; by default what `summarise` returns.

    Raises:
        OSError: A file cannot be written.
    """
    folder = Path(folder)
    write_text(folder / "scores.csv", scores.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    groups = (summarise(scores) if summary is None else summary).to_dict(orient="index")
    write_text(folder / "summary.json", json.dumps(groups, indent=2) + "\n")


def _glas_parts(scored: Iterable[tuple[str | os.PathLike | None, Scores]]) -> tuple[Glas, Glas] | None:
    """Adds up the images of each test part of the GlaS challenge, if all are of these parts and both are there."""
    parts = scores_by_group((challenge_part(path and Path(path)) or "", scores) for path, scores in scored)
    return (parts["A"].glas, parts["B"].glas) if parts.keys() == {"all", "A", "B"} else None


def _pairs(
    predictions: Predictions, dataset: NucleusDataset, progress: bool
) -> Iterator[tuple[dict[str, Any], Overlaps, np.ndarray | None]]:
    """Yields each image's entry in `image_info`, the overlaps of truth and prediction, and the latter's scores."""
    predictions.require(dataset)
    if len(dataset.image_ids) == 0:
        raise DatasetError("There is no image to evaluate on.")
    for index in tqdm(dataset.image_ids, desc="evaluate", unit="image", disable=not progress):
        truth, _ = dataset.load_labels(index)
        labels, confidences = predictions.read(dataset, index)
        yield dataset.image_info[index], overlaps(truth, labels), confidences


def _main_scores(predictions: Predictions, dataset: NucleusDataset, progress: bool) -> pd.DataFrame:
    rows = []
    for info, pair, _ in _pairs(predictions, dataset, progress):
        counts = count_matches(pair)
        precision = counts.average_precision
        matched = int(counts.true_positives[_AT_050])
        missed = int(counts.false_negatives[_AT_050])
        spurious = int(counts.false_positives[_AT_050])
        rows.append(
            {
                "ImageId": info["id"],
                "modality": info["modality"],
                "mAP": float(precision.mean()),
                "AP50": float(precision[_AT_050]),
                "AP75": float(precision[_AT_075]),
                "IoU": count_pixels(pair).iou,
                "true": matched + missed,
                "predicted": matched + spurious,
                "matched": matched,
                "missed": missed,
                "spurious": spurious,
            }
        )
    return pd.DataFrame(rows)


def _ranked(images: list[tuple[str, Overlaps, np.ndarray | None]], modality: str | None = None) -> dict[str, float]:
    """Returns the scores of ranked predictions of a modality's images, or of all; none where one has no scores."""
    if any(confidences is None for _, _, confidences in images):
        return {}
    chosen = [(pair, confidences) for name, pair, confidences in images if modality in (None, name)]
    found = coco_scores(chosen)
    return {
        "COCO_AP": found.ap,
        "COCO_AP50": found.ap50,
        "COCO_AP75": found.ap75,
        "COCO_AR": found.ar,
        "VOC_AP50": float(np.mean([score_average_precision(pair, confidences) for pair, confidences in chosen])),
    }


def _whole_numbers(table: pd.DataFrame, example: dict[str, Any]) -> pd.DataFrame:
    """Gives the columns of whole numbers their type back, which a table made of rows of both kinds has lost."""
    return table.astype({name: int for name, value in example.items() if isinstance(value, int)})
