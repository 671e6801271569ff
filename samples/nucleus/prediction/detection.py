"""Detection over many images: goes on past bad ones, and leaves one consistent folder of results."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.tiles import tile_progress
from nucleus.prediction.chunks import (
    Item,
    Predict,
    is_large,
    predict_singly,
    predict_together,
    read_ahead,
    read_chunks,
)
from nucleus.prediction.cluster import Cluster
from nucleus.prediction.large import detect_large, split_large
from nucleus.prediction.manifest import as_json, program
from nucleus.prediction.remote import Remote, delivery_writers, remote_model
from nucleus.prediction.results import Results
from nucleus.prediction.runs import DetectionRun
from nucleus.prediction.writers import Record, Writer, default_formats, open_writers
from nucleus.prediction.writers.base import OF_ONE_FILE

# Further images of a run, and the function that writes their results.
First = tuple[NucleusDataset, Callable[[Results, DetectionRun], None]]


def detect(
    model: NucleusModel,
    dataset: NucleusDataset,
    output: str | os.PathLike | Results,
    formats: Sequence[str] = default_formats(),
    progress: bool = True,
    cluster: Cluster | None = None,
) -> DetectionRun:
    """Finds the nuclei in every image of a data set and writes the results; see `write_detections`.

    Images of like size share network batches. Those that are too large for memory come first, read by regions; see
    `nucleus.prediction.large`.

    Args:
        model: The model.
        dataset: Prepared data set without preprocessing, since models preprocess images themselves.
        output: Folder of the results, which must not hold any yet; or `Results` that are entered, to replace or to
            resume others.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        progress: True to show a progress bar.
        cluster: Workers that predict, entered; None to predict in this process.

    Returns:
        Summary of the run.

    Raises:
        DatasetError: The data set preprocesses its images.
        ValueError: There is no such format, the folder holds results of another run, or the model cannot be sent to
            workers.
        OSError: A result cannot be written.

    Examples:
        >>> import tempfile
        >>> from nucleus import load_model, shipped_data
        >>> from nucleus.prediction.inputs import collect_images
        >>> images = sorted(shipped_data().glob("stage1_train/*/images/*.png"))[:2]
        >>> dataset, failures = collect_images(images)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     done = detect(load_model("classical/otsu"), dataset, folder, progress=False)
        ...     labels = sorted(path.stem for path in Path(folder, "labels").iterdir())
        >>> done.images, done.nuclei > 10, labels == [path.stem for path in images]
        (2, True, True)
    """
    small, large = split_large(dataset, model.config)
    facts = {"model": model.describe()}
    remote = remote_model(cluster, model)

    def detect_first(results: Results, done: DetectionRun) -> None:
        detect_large(model, large, results, done, as_json(facts), progress, cluster)

    return _write(predict_together(model), small, output, formats, progress, facts, (), (large, detect_first), remote)


def write_detections(
    find: Callable[[str, np.ndarray], Prediction],
    dataset: NucleusDataset,
    output: str | os.PathLike | Results,
    formats: Sequence[str] = default_formats(),
    progress: bool = True,
    more: Sequence[Callable[[Path], Writer]] = (),
    remote: Remote | None = None,
) -> DetectionRun:
    """Writes the nuclei found in every image of a data set.

    Whatever fails for one image is listed in `failures`, and the others go on. Files with one row an image or a nucleus
    are written at the end, after an interruption too, and hold this run's images; if no image could be done, nothing is
    written. The next images are read and the last ones written while nuclei are found.

    Args:
        find: Function from an image's id and its pixels, uint8 `[H, W, 3]` RGB as read, to labels (int32 `[H, W]`,
            1..N) and scores (float32 `[N]`).
        dataset: Prepared data set without preprocessing.
        output: Folder of the results; see `detect`.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        progress: Shows a progress bar of the images, and one of the tiles of each large image.
        more: Writers besides those of `formats`, made with the folder that they write into.
        remote: Prediction in other processes, instead of `find`.

    Returns:
        Summary of the run.

    Raises:
        DatasetError: The data set preprocesses its images.
        ValueError: There is no such format, or the folder holds results of another run.
        OSError: A result cannot be written.
    """
    return _write(predict_singly(find), dataset, output, formats, progress, {}, more, remote=remote)


def write_records(
    predict: Predict,
    make: Callable[[NucleusDataset, Item], Record],
    dataset: NucleusDataset,
    output: str | os.PathLike | Results,
    formats: Sequence[str],
    title: str,
    progress: bool = True,
    facts: Mapping[str, Any] | None = None,
    more: Sequence[Callable[[Path], Writer]] = (),
    first: First | None = None,
    remote: Remote | None = None,
) -> DetectionRun:
    """Makes a record of every image of a data set and writes it in every format.

    Args:
        predict: Gives every image of a chunk that has none a prediction or an error; called for one chunk after the
            other in the calling thread.
        make: Function from the data set and an image with a prediction to its record, called in another thread.
        dataset: Prepared data set.
        output: Folder of the results; see `detect`.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        title: Title of the progress bar.
        progress: Shows a progress bar of the images.
        facts: Causes of the results besides program, images, choice of planes and formats, such as the model.
        more: Writers besides those of `formats`, made with the folder that they write into.
        first: Further images of the run, and the function that writes their results before the others are begun.
        remote: Prediction in other processes, instead of `predict`; they call `make`, too.

    Returns:
        Summary of the run.

    Raises:
        ValueError: There is no such format, or the folder holds results of another run.
        OSError: A result cannot be written.
    """
    with ExitStack() as closing:
        results = output if isinstance(output, Results) else closing.enter_context(Results(output))
        open_all = open_writers if remote is None else delivery_writers
        writers = [*open_all(results.staging, formats), *(writer(results.staging) for writer in more)]
        reading = {**vars(dataset.planes), "pixel_size": dataset.pixel_size}
        known = {"program": program(), **(facts or {}), "reading": reading, "formats": list(formats)}
        others = [] if first is None else first[0].image_info
        results.start(known, [*dataset.image_info, *others])
        bar = closing.enter_context(tqdm(total=dataset.num_images, desc=title, unit="image", disable=not progress))
        writing = _Writing(results, writers, partial(make, dataset) if remote is None else attrgetter("made"), bar)
        if others:
            first[1](results, writing.done)
        items = writing.items(dataset)
        if remote is None:
            return writing.run(predict, read_ahead(read_chunks(items, dataset.load_image)))
        # The workers have predicted all images of the chunks that they give back.
        return writing.run(lambda chunk: None, remote.chunks(items, dataset, make, formats))


class _Writing:
    """A run in progress: predictions are made in the calling thread, records and files in another."""

    def __init__(self, results: Results, writers: Sequence[Writer], make: Callable[[Item], Record], bar: tqdm) -> None:
        self.done = DetectionRun(results.folder)
        self._results, self._writers, self._make, self._bar = results, writers, make, bar
        # A second Ctrl-C may end the wait for the thread that writes: it must do nothing more then.
        self._lock, self._ended = threading.Lock(), False

    def run(self, predict: Predict, chunks: Iterator[list[Item]]) -> DetectionRun:
        """Predicts and writes all images; see `write_records`."""
        start = time.perf_counter()
        try:
            with ThreadPoolExecutor(1, "write") as pool:
                written: Future[None] | None = None
                for chunk in chunks:
                    try:
                        predict(chunk)
                    except BaseException:
                        # Those of its images that are predicted need not be predicted again.
                        chunk[:] = [item for item in chunk if item.prediction is not None]
                        pool.submit(self._write, chunk)
                        raise
                    if written is not None:
                        written.result()
                    written = pool.submit(self._write, chunk)
                    if is_large(chunk):
                        written.result()
                if written is not None:
                    written.result()
        except BaseException:
            # An error in writing the tables is not what ended the run.
            with suppress(OSError, ValueError):
                self._finish(complete=False)
            raise
        self._finish(complete=True)
        self.done.seconds = time.perf_counter() - start
        return self.done

    def items(self, dataset: NucleusDataset) -> Iterator[Item]:
        """Yields the images of a data set, with the nuclei that are known from the run that is resumed."""
        for index in map(int, dataset.image_ids):
            info = dataset.image_info[index]
            prediction = self._results.prediction(info["id"])
            yield Item(index, info["id"], info["path"], prediction=prediction, done=prediction is not None)

    def _write(self, chunk: list[Item]) -> None:
        """Writes the images of a chunk, and lets go of each when it is written."""
        while chunk:
            item = chunk.pop(0)
            with self._lock:
                if self._ended:
                    return
                if item.error is None:
                    self._record(item)
                if item.error is not None:
                    message = self._results.named(item.explain())
                    self._results.fail(item.id, message)
                    self.done.failures.append(message)
            self._bar.update()

    def _record(self, item: Item) -> None:
        """Writes one image's files and takes its rows; sets the item's error where one of its own prevents that."""
        taken: list[Writer] = []
        try:
            record = self._make(item)
            # Measured before any writer has the image.
            nuclei = len(record.nuclei)
            about = {} if item.done else {**record.identity, "nuclei": nuclei}
        except Exception as error:
            item.error = error
            return
        try:
            for writer in self._writers:
                taken.append(writer)
                writer.add(record)
        except Exception as error:
            if isinstance(error, OSError) and error.errno not in OF_ONE_FILE:
                raise self._named(error) from error
            item.error = error
            for writer in taken:
                writer.drop(record)
            return
        self._results.commit(item.id, item.prediction, about)
        self.done.images += 1
        self.done.nuclei += nuclei
        self.done.resumed += item.done

    def _finish(self, complete: bool) -> None:
        with self._lock:
            self._ended = True
            try:
                for writer in self._writers:
                    writer.close()
            except OSError as error:
                raise self._named(error) from error
            self._results.finish(complete)

    def _named(self, error: OSError) -> OSError:
        """Returns an error of a staged file as one of the file that was meant."""
        if error.errno is None:
            return OSError(self._results.named(str(error)))
        return OSError(error.errno, error.strerror, self._results.named(str(error.filename or self._results.folder)))


def _write(
    predict: Predict,
    dataset: NucleusDataset,
    output: str | os.PathLike | Results,
    formats: Sequence[str],
    progress: bool,
    facts: Mapping[str, Any],
    more: Sequence[Callable[[Path], Writer]] = (),
    first: First | None = None,
    remote: Remote | None = None,
) -> DetectionRun:
    if dataset.preprocessing is not None:
        raise DatasetError("Prediction preprocesses images itself: detect on a dataset without preprocessing.")

    def show_tiles(chunk: Sequence[Item]) -> None:
        with tile_progress(progress):
            predict(chunk)

    return write_records(
        show_tiles, make_record, dataset, output, formats, "detect", progress, facts, more, first, remote
    )


def make_record(dataset: NucleusDataset, item: Item) -> Record:
    """Returns an image and its nuclei for the writers.

    Args:
        dataset: Prepared data set of the image.
        item: The image with its prediction.
    """
    found, raw = item.prediction, dataset.load_raw(item.index)
    place = dataset.image_info[item.index]["place"]
    return Record(item.id, item.file, item.image, found.labels, found.scores, raw, place, found.scale, found.diameter)
