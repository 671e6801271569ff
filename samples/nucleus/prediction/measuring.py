"""Tables of label images that were made or corrected elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.label_index import LabelIndex
from nucleus.datasets.layouts.label_files import BinaryMaskWatch
from nucleus.images.reading import read_labels
from nucleus.prediction.detection import DetectionRun, write_records
from nucleus.prediction.folders import label_folder
from nucleus.prediction.writers import Record
from nucleus.prediction.writers.nuclei import NUCLEI_FILE

FORMATS = ("nuclei", "images")


def measure_labels(
    labels: str | os.PathLike, dataset: NucleusDataset, output: str | os.PathLike, progress: bool = True
) -> DetectionRun:
    """Measures the nuclei of label images and writes the tables that detection writes.

    Labels keep their numbers. Scores are empty: those of a nucleus before its correction are not its own. An image
    whose labels are missing or do not fit is listed in `failures`, and the others go on.

    Args:
        labels: Folder of label images, named as `nucleus.datasets.label_index.LabelIndex` knows them, or one that
            detection wrote; or the label image of a single image.
        dataset: Prepared data set of the images, without preprocessing.
        output: Folder of `nuclei.csv` and `images.csv`.
        progress: True to show a progress bar.

    Returns:
        Summary of the run.

    Raises:
        DatasetError: There is no such folder, one label image is given for several images, or the folder of the results
            has a `nuclei.csv` already, with scores that may be needed.
        OSError: A result cannot be written.
    """
    if (Path(output) / NUCLEI_FILE).exists():
        raise DatasetError(f"{output}: has a {NUCLEI_FILE} already; name another folder for the results")
    find = _finder(Path(labels), {info["id"] for info in dataset.image_info})
    masks = BinaryMaskWatch()

    def read(index: int) -> Record:
        info = dataset.image_info[index]
        path = find(info["id"])
        numbers = read_labels(path)
        masks.look(path, numbers)
        raw = dataset.load_raw(index)
        if raw.pixels.shape[:2] != numbers.shape:
            raise DatasetError(f"{path}: has {numbers.shape} pixels, its image {info['path']} {raw.pixels.shape[:2]}")
        return Record(info["id"], info["path"], dataset.load_image(index), numbers, None, raw)

    return write_records(read, dataset, output, FORMATS, "measure", progress)


def _finder(labels: Path, ids: Collection[str]) -> Callable[[str], Path]:
    """Returns the function from an image's id to the path of its label image."""
    if not labels.is_file():
        index = LabelIndex(label_folder(labels))
        return lambda image_id: index.find(image_id, ids)
    if len(ids) != 1:
        raise DatasetError(f"{labels}: is one label image for {len(ids)} images; give the folder of all")
    return lambda _: labels
