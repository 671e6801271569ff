"""Writing of the report: one self-contained HTML page, and its pictures as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nucleus.datasets.dataset import NucleusDataset
from nucleus.evaluation.evaluation import Evaluation
from nucleus.evaluation.report import figures
from nucleus.evaluation.report.gallery import Exhibit, encode, make_gallery
from nucleus.evaluation.report.page import render
from nucleus.prediction.predictions import Predictions, require_distinct_names
from trainkit.files import write_bytes, write_text

PAGE_FILE = "report.html"


def write_report(
    folder: str | os.PathLike,
    dataset: NucleusDataset,
    evaluations: Sequence[Evaluation],
    predictions: Sequence[Predictions],
    description: str = "",
    gallery: int = 2,
) -> Path:
    """Writes `report.html` and its pictures as PNG files.

    The page is self-contained, with embedded pictures and without scripts. It depends neither on the time nor on the
    folder, so reports of the same scores are equal byte for byte.

    Args:
        folder: Folder of the report, created if missing.
        dataset: Prepared data set with masks.
        evaluations: Evaluation of each model on this data set (`nucleus.evaluation.evaluation.evaluate_fully`), all at
            one threshold and with different names.
        predictions: Predictions of each model, which are read again for the images in the gallery.
        description: Description of the images, such as the data set's name and subset.
        gallery: Number of images of each kind in the gallery: best, median and worst.

    Returns:
        Path of the page.

    Raises:
        ValueError: There is no evaluation, they are of different images or thresholds or share a name, or evaluations
            and predictions differ in number.
        OSError: A file cannot be written.
    """
    if len(predictions) != len(evaluations):
        raise ValueError(f"Received: {len(evaluations)} evaluations, but {len(predictions)} sources of predictions")
    _check(evaluations, [dataset.image_info[index]["id"] for index in dataset.image_ids])
    exhibits = make_gallery(dataset, evaluations, predictions, gallery)
    plots = _plots(evaluations)
    text = render(evaluations, [source.source for source in predictions], description, plots, exhibits)
    folder = Path(folder)
    for name, data in {**{f"{name}.png": data for name, data in plots.items()}, **_picture_files(exhibits)}.items():
        write_bytes(folder / name, data)
    write_text(folder / PAGE_FILE, text)
    return folder / PAGE_FILE


def _check(evaluations: Sequence[Evaluation], image_ids: Sequence[str]) -> None:
    """Raises ValueError for evaluations that cannot be compared."""
    if not evaluations:
        raise ValueError("There is no evaluation to report.")
    require_distinct_names([evaluation.name for evaluation in evaluations])
    for evaluation in evaluations:
        own = list(evaluation.images["ImageId"])
        if own != list(image_ids):
            differing = sorted(set(own) ^ set(image_ids))
            what = f"{differing[0]} is in one of them only" if differing else "their order differs"
            raise ValueError(f"{evaluation.name} was scored on other images than the data set's: {what}")
        if evaluation.threshold != evaluations[0].threshold:
            raise ValueError(
                f"{evaluations[0].name} and {evaluation.name} were scored at different IoU thresholds: "
                f"{evaluations[0].threshold:g} and {evaluation.threshold:g}"
            )


def _plots(evaluations: Sequence[Evaluation]) -> dict[str, bytes]:
    """Draws the plots, without those that need several modalities or nuclei where there are none."""
    plots = {"ap_curve": figures.ap_curve(evaluations)}
    if len(evaluations[0].summary) > 1:
        plots["ap_curve_by_modality"] = figures.ap_curves_by_modality(evaluations)
    if np.any(evaluations[0].summary["true"] > 0):
        plots["sensitivity"] = figures.sensitivity(evaluations)
        plots["iou_histograms"] = figures.iou_histograms(evaluations)
    return plots


def _picture_files(exhibits: Sequence[Exhibit]) -> dict[str, bytes]:
    """Returns the gallery's PNG files by name, with numbers for models, whose names may be no valid file names."""
    files = {}
    for number, exhibit in enumerate(exhibits, start=1):
        for picture in exhibit.pictures:
            source = "image" if picture.model is None else f"model{picture.model + 1}"
            files[f"gallery_{number:02d}_{exhibit.kind}_{source}.png"] = encode(picture.pixels, ".png")
    return files
