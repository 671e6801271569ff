"""Scores a model on images with ground truth: one row an image, and means overall and by modality."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from nucleus.dataset import DatasetError, NucleusDataset
from nucleus.images import read_labels
from nucleus.inference import predict
from nucleus.metrics import THRESHOLDS, count_matches, count_pixels, overlaps
from trainkit.files import write_text

_AT_050, _AT_075 = (int(np.flatnonzero(threshold == THRESHOLDS)[0]) for threshold in (0.5, 0.75))


def evaluate(model: Any, dataset: NucleusDataset, progress: bool = True) -> pd.DataFrame:
    """Scores a model on every image of a dataset.

    Args:
        model: What `nucleus.inference.predict` takes.
        dataset: Prepared, with masks and without preprocessing, which prediction does itself.
        progress: Shows a progress bar.

    Returns:
        One row an image: ImageId, modality, mAP (2018 Data Science Bowl: mean over IoU 0.5 to 0.95 of
        TP / (TP + FP + FN)), AP50 and AP75 (that quotient at one threshold), IoU (of all nuclei's pixels together),
        true (nuclei in the ground truth), predicted, and matched, missed and spurious at IoU 0.5.

    Raises:
        DatasetError: The dataset preprocesses its images, or has none.
    """
    if dataset.preprocessing is not None:
        raise DatasetError("Prediction preprocesses images itself: evaluate on a dataset without preprocessing.")
    return _score(lambda index: predict(model, dataset.load_image(index))[0], dataset, progress)


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

    def read(index: int) -> np.ndarray:
        path = _prediction_path(Path(folder), dataset.image_info[index]["id"])
        labels = read_labels(path)
        truth, _ = dataset.load_labels(index)
        if labels.shape != truth.shape:
            raise DatasetError(f"{path}: has {labels.shape} pixels, its image {truth.shape}")
        return labels

    return _score(read, dataset, progress)


def _prediction_path(folder: Path, image_id: str) -> Path:
    for suffix in (".png", ".tif", ".tiff"):
        if (folder / f"{image_id}{suffix}").is_file():
            return folder / f"{image_id}{suffix}"
    raise DatasetError(f"{folder}: no label image {image_id}.png (or .tif, .tiff)")


def _score(predict_labels: Callable[[int], np.ndarray], dataset: NucleusDataset, progress: bool) -> pd.DataFrame:
    if len(dataset.image_ids) == 0:
        raise DatasetError("There is no image to evaluate on.")
    rows = []
    for image_id in tqdm(dataset.image_ids, desc="evaluate", unit="image", disable=not progress):
        truth, _ = dataset.load_labels(image_id)
        pair = overlaps(truth, predict_labels(image_id))
        counts = count_matches(pair)
        precision = counts.average_precision
        matched = int(counts.true_positives[_AT_050])
        missed = int(counts.false_negatives[_AT_050])
        spurious = int(counts.false_positives[_AT_050])
        info = dataset.image_info[image_id]
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


def save_scores(scores: pd.DataFrame, folder: str | os.PathLike) -> None:
    """Writes `scores.csv` (one row an image) and `summary.json` (overall and by modality).

    Args:
        scores: From `evaluate`.
        folder: Where to; created if missing.

    Raises:
        OSError: A file cannot be written.
    """
    folder = Path(folder)
    write_text(folder / "scores.csv", scores.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    summary = summarise(scores).to_dict(orient="index")
    write_text(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
