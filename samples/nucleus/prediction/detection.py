"""Detection over many images: goes on past bad ones, and leaves one folder of results."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.images.decoding import NO_CHOICE, Planes
from nucleus.models.base import NucleusModel
from nucleus.models.limits import warn_of_limits
from nucleus.models.tiles import tile_progress
from nucleus.prediction.predictions import ModelPredictions
from nucleus.prediction.writers import Record, default_formats, open_writers


@dataclass
class DetectionRun:
    """Summary of a run over many images.

    Attributes:
        output: Folder of the results.
        images: Number of images with results.
        nuclei: Number of nuclei found in them.
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
    model: NucleusModel,
    dataset: NucleusDataset,
    output: str | os.PathLike,
    formats: Sequence[str] = default_formats(),
    progress: bool = True,
) -> DetectionRun:
    """Finds the nuclei in every image of a data set and writes the results; see `write_detections`.

    Args:
        model: The model.
        dataset: Prepared data set without preprocessing, since models preprocess images themselves.
        output: Folder of the results; created with the first of them.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        progress: True to show a progress bar.

    Returns:
        Summary of the run.

    Raises:
        DatasetError: The data set preprocesses its images.
        ValueError: There is no such format.
        OSError: A result cannot be written.

    Examples:
        >>> import tempfile
        >>> from nucleus import load_model, shipped_data
        >>> images = sorted(shipped_data().glob("stage1_train/*/images/*.png"))[:2]
        >>> dataset, failures = collect_images(images)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     done = detect(load_model("classical/otsu"), dataset, folder, progress=False)
        ...     labels = sorted(path.stem for path in Path(folder, "labels").iterdir())
        >>> done.images, done.nuclei > 10, labels == [path.stem for path in images]
        (2, True, True)
    """
    return write_detections(ModelPredictions(model).find, dataset, output, formats, progress)


def write_detections(
    find: Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]],
    dataset: NucleusDataset,
    output: str | os.PathLike,
    formats: Sequence[str] = default_formats(),
    progress: bool = True,
) -> DetectionRun:
    """Writes the nuclei found in every image of a data set.

    An image that cannot be read or predicted, or that does not fit into memory, is listed in `failures`, and the others
    go on. Files with one row an image or a nucleus are written at the end, after an interruption too, and hold this
    run's images; if no image could be done, nothing is written.

    Args:
        find: Function from an image's id and its pixels, uint8 `[H, W, 3]` RGB as read, to labels (int32 `[H, W]`,
            1..N) and scores (float32 `[N]`); a ValueError is the image's failure.
        dataset: Prepared data set without preprocessing.
        output: Folder of the results; created with the first of them.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        progress: Shows a progress bar of the images, and one of the tiles of each large image.

    Returns:
        Summary of the run.

    Raises:
        DatasetError: The data set preprocesses its images.
        ValueError: There is no such format.
        OSError: A result cannot be written.
    """
    if dataset.preprocessing is not None:
        raise DatasetError("Prediction preprocesses images itself: detect on a dataset without preprocessing.")

    def find_nuclei(index: int) -> Record:
        with tile_progress(progress):
            return _find_nuclei(find, dataset, index)

    return write_records(find_nuclei, dataset, output, formats, "detect", progress)


def write_records(
    make: Callable[[int], Record],
    dataset: NucleusDataset,
    output: str | os.PathLike,
    formats: Sequence[str],
    title: str,
    progress: bool = True,
) -> DetectionRun:
    """Makes a record of every image of a data set and writes it in every format.

    Args:
        make: Function from an image's index to its record; a ValueError is the image's failure.
        dataset: Prepared data set.
        output: Folder of the results.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        title: Title of the progress bar.
        progress: Shows a progress bar of the images.

    Returns:
        Summary of the run.

    Raises:
        ValueError: There is no such format.
        OSError: A result cannot be written.
    """
    run = DetectionRun(Path(output))
    start = time.perf_counter()
    with ExitStack() as closing:
        writers = open_writers(output, formats)
        for writer in writers:
            closing.callback(writer.close)
        for index in tqdm(dataset.image_ids, desc=title, unit="image", disable=not progress):
            try:
                record = make(index)
            except ValueError as error:
                run.failures.append(str(error))
                continue
            for writer in writers:
                writer.add(record)
            run.images += 1
            run.nuclei += len(record.nuclei)
    run.seconds = time.perf_counter() - start
    return run


def collect_images(
    paths: Iterable[str | os.PathLike], planes: Planes = NO_CHOICE, pixel_size: float | None = None
) -> tuple[NucleusDataset, list[str]]:
    """Gathers image files and the images of folders.

    Args:
        paths: Image files and folders of them.
        planes: Choice of channel, plane and frame in files that hold several.
        pixel_size: Side of a pixel in µm, for measurements; None for what each file says.

    Returns:
        dataset: Prepared data set of the images that were found; see `NucleusDataset.load_images` for their ids.
        failures: One message for each path without an image.
    """
    dataset, failures = NucleusDataset(planes=planes, pixel_size=pixel_size), []
    for path in paths:
        try:
            dataset.load_images(path)
        except DatasetError as error:
            failures.append(str(error))
    dataset.prepare()
    return dataset, failures


def _find_nuclei(
    find: Callable[[str, np.ndarray], tuple[np.ndarray, np.ndarray]], dataset: NucleusDataset, index: int
) -> Record:
    """Reads an image and finds its nuclei; raises ValueError, with the image's name, where that cannot be done."""
    name, path = dataset.image_info[index]["id"], dataset.image_info[index]["path"]
    try:
        image = dataset.load_image(index)
    except MemoryError:
        raise ValueError(f"{path}: the image does not fit into memory") from None
    try:
        with warn_of_limits(path):
            labels, scores = find(name, image)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except MemoryError:
        height, width = image.shape[:2]
        raise ValueError(f"{path}: {width} x {height} pixels need more memory than there is; lower TILE_SIZE") from None
    try:
        return Record(name, path, image, labels, scores, dataset.load_raw(index), dataset.image_info[index]["place"])
    except MemoryError:
        raise ValueError(f"{path}: its samples do not fit into memory beside its nuclei") from None


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
