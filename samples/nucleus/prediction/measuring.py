"""Tables of label images that were made or corrected elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.label_index import LabelIndex
from nucleus.datasets.layouts.label_files import BinaryMaskWatch
from nucleus.images.reading import read_labels
from nucleus.models.base import Prediction
from nucleus.prediction.chunks import Item
from nucleus.prediction.detection import DetectionRun, write_records
from nucleus.prediction.folders import label_folder
from nucleus.prediction.results import Results
from nucleus.prediction.writers import Record

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
        DatasetError: There is no such folder, or one label image is given for several images.
        ProvenanceError: The folder of the results holds results already, whose scores may be needed.
        OSError: A result cannot be written.
    """
    find = _finder(Path(labels), {info["id"] for info in dataset.image_info})
    masks = BinaryMaskWatch()

    def read(chunk: Sequence[Item]) -> None:
        for item in chunk:
            if item.error is None:
                try:
                    item.prediction = _read(item)
                except Exception as error:
                    item.error = error

    def _read(item: Item) -> Prediction:
        path = find(item.id)
        numbers = read_labels(path)
        masks.look(path, numbers)
        if item.image.shape[:2] != numbers.shape:
            raise DatasetError(f"{path}: has {numbers.shape} pixels, its image {item.file} {item.image.shape[:2]}")
        return Prediction(numbers, None)

    def make(item: Item) -> Record:
        return Record(item.id, item.file, item.image, item.prediction.labels, None, dataset.load_raw(item.index))

    with Results(output, keep=False) as results:
        return write_records(read, make, dataset, results, FORMATS, "measure", progress)


def _finder(labels: Path, ids: Collection[str]) -> Callable[[str], Path]:
    """Returns the function from an image's id to the path of its label image."""
    if not labels.is_file():
        index = LabelIndex(label_folder(labels))
        return lambda image_id: index.find(image_id, ids)
    if len(ids) != 1:
        raise DatasetError(f"{labels}: is one label image for {len(ids)} images; give the folder of all")
    return lambda _: labels
