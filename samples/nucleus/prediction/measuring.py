"""Tables of nuclei that were outlined or corrected elsewhere: in label images, ROIs, GeoJSON or `_seg.npy`."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.label_index import LabelIndex
from nucleus.datasets.layouts.drawn_files import drawn_kind, read_any_labels
from nucleus.datasets.layouts.label_files import BinaryMaskWatch
from nucleus.models.base import Prediction
from nucleus.prediction.chunks import Item, Predict
from nucleus.prediction.cluster import wanted_cluster
from nucleus.prediction.detection import DetectionRun, write_records
from nucleus.prediction.folders import label_folder
from nucleus.prediction.remote import Remote
from nucleus.prediction.results import Results
from nucleus.prediction.writers import TABLE_FORMATS, Record


def measure_labels(
    labels: str | os.PathLike,
    dataset: NucleusDataset,
    output: str | os.PathLike,
    progress: bool = True,
    formats: Sequence[str] = TABLE_FORMATS,
    overwrite: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
) -> DetectionRun:
    """Measures the nuclei of label images and writes the tables that detection writes.

    Instead of label images, files of the kinds in `nucleus.datasets.layouts.drawn_files.KINDS` can hold the nuclei.
    Labels keep their numbers; nuclei of the other files count from 1 in their order. Scores are empty: those of a
    nucleus before its correction are not its own. An image whose labels are missing or do not fit is listed in
    `failures`, and the others go on.

    Args:
        labels: Folder of the label images or other files, named as `nucleus.datasets.label_index.LabelIndex` knows
            them, or one that detection wrote; or the file of a single image.
        dataset: Prepared data set of the images, without preprocessing.
        output: Folder of the results.
        progress: True to show a progress bar.
        formats: Names in `nucleus.prediction.writers.WRITERS`; by default the tables.
        overwrite: True to replace the results of another run.
        workers: Number of processes to measure in; None for this one.
        scheduler: Address of a scheduler of Dask whose workers measure, instead of `workers`.

    Returns:
        Summary of the run.

    Raises:
        DatasetError: There is no such folder, or one label image is given for several images.
        ClusterError: Workers cannot be started or reached.
        ProvenanceError: The folder of the results holds results already, whose scores may be needed, and `overwrite`
            is false; or it would replace the labels.
        OSError: A result cannot be written.
    """
    find = _finder(Path(labels), dataset)
    masks = BinaryMaskWatch()

    def locate(item: Item) -> None:
        try:
            item.note = find(item.id)
        except Exception as error:
            item.error = item.error or error

    def watch(item: Item) -> None:
        if drawn_kind(item.note) is None:
            masks.look(item.note, item.prediction.labels)

    def read(chunk: Sequence[Item]) -> None:
        for item in chunk:
            locate(item)
        _read_labels(chunk)
        for item in chunk:
            if item.error is None:
                watch(item)

    results = Results(output, overwrite, keep=False, reads=[labels])
    with results, wanted_cluster(workers, scheduler) as cluster:
        remote = None if cluster is None else Remote(cluster, partial(_start_reading, Path.cwd()), locate, watch)
        return write_records(read, _make, dataset, results, formats, "measure", progress, remote=remote)


def _start_reading(folder: Path, _: NucleusDataset) -> Predict:
    return partial(_read_labels, folder=folder)


def _read_labels(chunk: Sequence[Item], folder: Path = Path()) -> None:
    """Reads the nuclei of images from the files that are their notes, relative to a folder."""
    for item in chunk:
        if item.error is not None:
            continue
        path = folder / item.note
        try:
            height, width = item.image.shape[:2]
            item.prediction = Prediction(read_any_labels(path, (height, width), item.file), None)
        except ValueError as error:
            # The file is known by the name that was given.
            item.error = ValueError(str(error).replace(str(path), str(item.note)))
        except Exception as error:
            item.error = error


def _make(dataset: NucleusDataset, item: Item) -> Record:
    return Record(item.id, item.file, item.image, item.prediction.labels, None, dataset.load_raw(item.index))


def _finder(labels: Path, dataset: NucleusDataset) -> Callable[[str], Path]:
    """Returns the function from an image's id to the path of the file with its nuclei."""
    ids: Collection[str] = {info["id"] for info in dataset.image_info}
    if not labels.is_file():
        images = [Path(info["path"]) for info in dataset.image_info]
        index = LabelIndex(label_folder(labels), leave_out=images)
        return lambda image_id: index.find(image_id, ids)
    if len(ids) != 1:
        raise DatasetError(f"{labels}: is one label image for {len(ids)} images; give the folder of all")
    return lambda _: labels
