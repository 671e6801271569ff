"""Detection over many images: goes on past bad ones, and leaves one folder of results."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.prediction.export import (
    nuclei_table,
    submission_rows,
    write_images,
    write_labels,
    write_nuclei,
    write_overlay,
    write_submission,
)

LABEL_FORMATS = ("png", "tif")


@dataclass
class DetectionRun:
    """What a run of `detect` found.

    Attributes:
        output: Folder of the results.
        images: Images that were done.
        nuclei: Nuclei found in them.
        seconds: Time from the first image to the last file.
        failures: One message for each input that could not be used, naming it.
    """

    output: Path
    images: int = 0
    nuclei: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = f"{_count(self.images, 'image', 'images')}, {_count(self.nuclei, 'nucleus', 'nuclei')}"
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"{counts}, {self.seconds:.1f} s{failed}: {self.output}"


def detect(
    model: Any,
    dataset: NucleusDataset,
    output: str | os.PathLike,
    label_format: str = "png",
    progress: bool = True,
) -> DetectionRun:
    """Finds the nuclei in every image of a dataset and writes the results; see `write_detections`.

    Args:
        model: A nucleus model.
        dataset: Prepared, without preprocessing, which prediction does itself.
        output: Folder of the results; created with the first of them.
        label_format: One of LABEL_FORMATS.
        progress: Shows a progress bar.

    Returns:
        The `DetectionRun`.

    Raises:
        DatasetError: The dataset preprocesses its images.
        OSError: A result cannot be written.
    """
    return write_detections(lambda _, image: model.predict(image)[0], dataset, output, label_format, progress)


def write_detections(
    find: Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]],
    dataset: NucleusDataset,
    output: str | os.PathLike,
    label_format: str = "png",
    progress: bool = True,
) -> DetectionRun:
    """Writes what is found in every image of a dataset.

    The folder gets `labels/<id>.png` (16 bit, or `.tif`), `overlays/<id>.png`, `submission.csv`, `nuclei.csv` and
    `images.csv`. An image that cannot be read or predicted is listed in `failures` and the others go on. The tables
    are written at the end, after an interruption too, and hold this run's images; if no image could be done nothing is
    written.

    Args:
        find: Given an image's id and its pixels, uint8 `[H, W, 3]` RGB as read, returns what
            `NucleusModel.predict` does for an image; a ValueError of it is the image's failure.
        dataset: Prepared, without preprocessing.
        output: Folder of the results; created with the first of them.
        label_format: One of LABEL_FORMATS.
        progress: Shows a progress bar.

    Returns:
        The `DetectionRun`.

    Raises:
        DatasetError: The dataset preprocesses its images.
        OSError: A result cannot be written.
    """
    if dataset.preprocessing is not None:
        raise DatasetError("Prediction preprocesses images itself: detect on a dataset without preprocessing.")
    run = DetectionRun(Path(output))
    rows, tables, files = [], [], []
    start = time.perf_counter()
    try:
        for index in tqdm(dataset.image_ids, desc="detect", unit="image", disable=not progress):
            name = dataset.image_info[index]["id"]
            try:
                image = dataset.load_image(index)
            except ValueError as error:
                run.failures.append(str(error))
                continue
            try:
                labels, scores = find(name, image)
            except ValueError as error:
                run.failures.append(f"{dataset.image_info[index]['path']}: {error}")
                continue
            write_labels(run.output / "labels" / f"{name}.{label_format}", labels)
            write_overlay(run.output / "overlays" / f"{name}.png", image, labels)
            rows += submission_rows(name, labels)
            files.append((name, dataset.image_info[index]["path"], *labels.shape, len(scores)))
            tables.append(nuclei_table(name, image, labels, scores))
            run.images += 1
            run.nuclei += len(scores)
    finally:
        if tables:
            write_submission(run.output / "submission.csv", rows)
            write_nuclei(run.output / "nuclei.csv", tables)
            write_images(run.output / "images.csv", files)
        run.seconds = time.perf_counter() - start
    return run


def collect_images(paths: Iterable[str | os.PathLike]) -> tuple[NucleusDataset, list[str]]:
    """Gathers image files and the images of folders.

    Args:
        paths: Image files and folders of them.

    Returns:
        dataset: Prepared, with the images that are there; see `NucleusDataset.load_images` for their ids.
        failures: One message for each path without an image.
    """
    dataset, failures = NucleusDataset(), []
    for path in paths:
        try:
            dataset.load_images(path)
        except DatasetError as error:
            failures.append(str(error))
    dataset.prepare()
    return dataset, failures


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
