"""Scores of predictions on images with ground truth: by image, overall and by modality.

`evaluate` computes the scores that take milliseconds an image, which a training watches; `evaluate_fully` computes all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.layouts.glas import challenge_part
from nucleus.evaluation.scores import (
    DETECTION_IOU,
    Glas,
    MainScores,
    Overlaps,
    Scores,
    coco_scores,
    main_scores,
    nucleus_table,
    overlaps,
    score,
    score_average_precision,
    scores_by_group,
)
from nucleus.models.base import NucleusModel
from nucleus.prediction.cluster import wanted_cluster
from nucleus.prediction.predictions import ModelPredictions, Predictions
from nucleus.prediction.remote import remote_model
from trainkit.files import write_text


def evaluate(
    model: NucleusModel,
    dataset: NucleusDataset,
    progress: bool = True,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
) -> pd.DataFrame:
    """Scores a model on every image of a data set.

    Args:
        model: The model.
        dataset: Prepared data set with masks, without preprocessing, since models preprocess images themselves.
        progress: True to show a progress bar.
        workers: Number of processes to predict in; None for this one.
        scheduler: Address of a scheduler of Dask whose workers predict, instead of `workers`.

    Returns:
        One row an image: ImageId, modality, and the columns of `nucleus.evaluation.scores.MainScores.values`, but
        `images`: mAP, AP50, AP75, IoU, true, predicted, matched, missed, spurious... The mean of a column of averages,
        such as mAP, is the data set's.

    Raises:
        DatasetError: The data set preprocesses its images, or has none.
        ValueError: Workers cannot be started or reached, or cannot use the model.

    Examples:
        >>> from nucleus import load_model, shipped_data
        >>> dataset = NucleusDataset()
        >>> dataset.load_nucleus(shipped_data(), "val")
        >>> dataset.prepare()
        >>> table = evaluate(load_model("classical/otsu"), dataset, progress=False)
        >>> len(table), bool(0.2 < table["mAP"].mean() < 0.8)
        (6, True)
        >>> bool((table["matched"] + table["missed"] == table["true"]).all())
        True
    """
    with wanted_cluster(workers, scheduler) as cluster:
        predictions = ModelPredictions(model, remote=remote_model(cluster, model))
        pairs = overlaps_by_image(predictions, dataset, progress)
        return _by_image((info, main_scores(pair)) for info, pair, _ in pairs)


@dataclass(frozen=True)
class Evaluation:
    """Every score of one model's predictions.

    Attributes:
        name: Name of the model in tables and pictures.
        threshold: IoU above which a nucleus counts as found, for precision, recall, F1, oseg and useg.
        images: One row an image: ImageId, modality, and the columns of `nucleus.evaluation.scores.Scores.values`, but
            `images`.
        summary: Index: "all", then, where there are several, each modality. Columns: those of
            `nucleus.evaluation.scores.Scores.values`; `detection_IoU`, the threshold; and, where the predictions have
            scores, COCO_AP, COCO_AP50, COCO_AP75 and COCO_AR (see `nucleus.evaluation.scores.coco_scores`) and
            VOC_AP50 (the mean over images of `nucleus.evaluation.scores.score_average_precision`).
        nuclei: One row a true nucleus: ImageId, modality, and the columns of `nucleus.evaluation.scores.nucleus_table`.
        glas_parts: Sums over the images of test parts A and B of the GlaS challenge; None of other images, and of these
            where they are scaled, since the challenge's distances are in pixels of its own files.
    """

    name: str
    threshold: float
    images: pd.DataFrame
    summary: pd.DataFrame
    nuclei: pd.DataFrame
    glas_parts: tuple[Glas, Glas] | None = None

    def save(self, folder: str | os.PathLike) -> None:
        """Writes `scores.csv` (one row an image) and `summary.json` (overall and by modality).

        Args:
            folder: Destination; created if missing.

        Raises:
            OSError: A file cannot be written.
        """
        table = self.images.to_csv(index=False, float_format="%.6f", lineterminator="\n")
        write_text(Path(folder) / "scores.csv", table)
        groups = self.summary.to_dict(orient="index")
        write_text(Path(folder) / "summary.json", json.dumps(groups, indent=2) + "\n")


def evaluate_fully(
    predictions: Predictions, dataset: NucleusDataset, threshold: float = DETECTION_IOU, progress: bool = True
) -> Evaluation:
    """Computes every score of predictions, overall, by image and by modality.

    Most of the time, a tenth of a second for an image of a hundred nuclei, goes into the Hausdorff distances of the
    GlaS challenge's scores.

    Args:
        predictions: Predictions of every image: `nucleus.prediction.predictions.ModelPredictions` of a model, or a
            `nucleus.prediction.folders.PredictionFolder`.
        dataset: Prepared data set with masks.
        threshold: IoU above which a nucleus counts as found, 0.5..1, for precision, recall, F1, oseg and useg.
        progress: True to show a progress bar.

    Returns:
        The scores.

    Raises:
        DatasetError: An image has no prediction or one of another size, scores do not fit, or the data set has no
            image.
        ValueError: A prediction cannot be read, or the threshold is not in 0.5..1.
    """
    scored, nuclei, ranked = [], [], []
    for info, pair, confidences in overlaps_by_image(predictions, dataset, progress):
        scored.append((info, score(pair, threshold)))
        nuclei.append(nucleus_table(pair).assign(ImageId=info["id"], modality=info["modality"]))
        # COCO's score is one of all images together, and neither it nor the lineage's takes pixels.
        ranked.append((info["modality"], pair.without_pixels(), confidences))
    groups = scores_by_group((info["modality"], scores) for info, scores in scored)
    summary = {
        name: {**scores.values(), "detection_IoU": threshold, **_ranked(ranked, None if name == "all" else name)}
        for name, scores in groups.items()
    }
    whole = [name for name, value in next(iter(summary.values())).items() if isinstance(value, int)]
    columns = ["ImageId", "modality"]
    table = pd.concat(nuclei, ignore_index=True)
    return Evaluation(
        name=predictions.name,
        threshold=threshold,
        images=_by_image(scored),
        # A table made of rows of both kinds has lost the type of whole numbers.
        summary=pd.DataFrame.from_dict(summary, orient="index").astype(dict.fromkeys(whole, int)),
        nuclei=table[columns + [name for name in table if name not in columns]],
        glas_parts=_glas_parts((info["masks"], scores) for info, scores in scored) if dataset.fit is None else None,
    )


def overlaps_by_image(
    predictions: Predictions, dataset: NucleusDataset, progress: bool = True
) -> Iterator[tuple[dict[str, Any], Overlaps, np.ndarray | None]]:
    """Yields what every score is computed from, image by image.

    Args:
        predictions: Predictions of every image.
        dataset: Prepared data set with masks.
        progress: Shows a progress bar.

    Yields:
        The image's entry in `image_info`, the overlaps of truth and prediction, and the scores of the predicted nuclei,
        float32 `[N]`, None where they are not known.

    Raises:
        DatasetError: An image has no prediction or one of another size, or the data set has no image.
        ValueError: A prediction cannot be read.
    """
    predictions.require(dataset)
    if len(dataset.image_ids) == 0:
        raise DatasetError("There is no image to evaluate on.")
    indices = [int(index) for index in dataset.image_ids]
    found = predictions.read_each(dataset, indices)
    for index in tqdm(indices, desc="evaluate", unit="image", disable=not progress):
        truth, _ = dataset.load_labels(index)
        labels, confidences = next(found)
        yield dataset.image_info[index], overlaps(truth, labels), confidences


def _by_image(scored: Iterable[tuple[dict[str, Any], MainScores]]) -> pd.DataFrame:
    rows = [{"ImageId": info["id"], "modality": info["modality"], **scores.values()} for info, scores in scored]
    return pd.DataFrame(rows).drop(columns="images")


def _glas_parts(scored: Iterable[tuple[str | os.PathLike | None, Scores]]) -> tuple[Glas, Glas] | None:
    """Adds up the images of each test part of the GlaS challenge, if all are of these parts and both are there."""
    parts = scores_by_group((challenge_part(path and Path(path)) or "", scores) for path, scores in scored)
    return (parts["A"].glas, parts["B"].glas) if parts.keys() == {"all", "A", "B"} else None


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
