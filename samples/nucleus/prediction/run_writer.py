"""The run of a detection or a measurement: predictions, records and files of every image, and the tables at the end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from operator import attrgetter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nucleus.datasets.dataset import NucleusDataset
from nucleus.models.tiles import tile_progress
from nucleus.prediction.chunks import Item, Predict, is_large, read_ahead, read_chunks
from nucleus.prediction.manifest import DetectionRun, program
from nucleus.prediction.remote import Remote, delivery_writers
from nucleus.prediction.results import Results
from nucleus.prediction.writers import Record, Writer, open_writers
from nucleus.prediction.writers.base import OF_ONE_FILE


def entered(output: str | os.PathLike | Results) -> AbstractContextManager[Results]:
    """Returns the context of a folder of results, which is entered already where it is `Results`."""
    return nullcontext(output) if isinstance(output, Results) else Results(output)


class RunWriter:
    """A run in progress: predictions are made in the calling thread, records and files in another.

    Args:
        results: Folder of the results, entered.
        dataset: Prepared data set of all images.
        formats: Names in `nucleus.prediction.writers.WRITERS`.
        progress: Shows progress bars.
        facts: Causes of the results besides program, images, choice of planes and formats, such as the model.
        more: Writers besides those of `formats`, made with the folder that they write into.
        remote: Prediction in other processes, which make the files of single images too; None for this process.
    """

    def __init__(
        self,
        results: Results,
        dataset: NucleusDataset,
        formats: Sequence[str],
        progress: bool,
        facts: Mapping[str, Any] | None = None,
        more: Sequence[Callable[[Path], Writer]] = (),
        remote: Remote | None = None,
    ) -> None:
        self.done = DetectionRun(results.folder)
        self._results, self._formats, self._progress, self._remote = results, formats, progress, remote
        open_all = open_writers if remote is None else delivery_writers
        self.writers = [*open_all(results.staging, formats), *(writer(results.staging) for writer in more)]
        reading = {**vars(dataset.planes), "pixel_size": dataset.pixel_size}
        known = {"program": program(), **(facts or {}), "reading": reading, "formats": list(formats)}
        results.start(known, dataset.image_info)
        # A second Ctrl-C may end the wait for the thread that writes: it must do nothing more then.
        self._lock, self._ended = threading.Lock(), False

    def write(
        self, predict: Predict, make: Callable[[NucleusDataset, Item], Record], dataset: NucleusDataset, title: str
    ) -> DetectionRun:
        """Predicts and writes all images of a data set; see `nucleus.prediction.detection.write_records`."""
        items = self._items(dataset)
        if self._remote is None:
            return self._write_all(
                read_ahead(read_chunks(items, dataset.load_image)), predict, partial(make, dataset), dataset, title
            )
        # The workers have predicted all images of the chunks that they give back.
        chunks = self._remote.chunks(items, dataset, make, self._formats)
        return self._write_all(chunks, lambda chunk: None, attrgetter("made"), dataset, title)

    def _write_all(
        self,
        chunks: Iterator[list[Item]],
        predict: Predict,
        make: Callable[[Item], Record],
        dataset: NucleusDataset,
        title: str,
    ) -> DetectionRun:
        start = time.perf_counter()
        bar = tqdm(total=dataset.num_images, desc=title, unit="image", disable=not self._progress)
        try:
            with bar, ThreadPoolExecutor(1, "write") as pool, tile_progress(self._progress):
                written: Future[None] | None = None
                for chunk in chunks:
                    try:
                        predict(chunk)
                    except BaseException:
                        # Those of its images that are predicted need not be predicted again.
                        chunk[:] = [item for item in chunk if item.prediction is not None]
                        pool.submit(self._write, chunk, make, bar)
                        raise
                    if written is not None:
                        written.result()
                    written = pool.submit(self._write, chunk, make, bar)
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

    def _items(self, dataset: NucleusDataset) -> Iterator[Item]:
        for index in map(int, dataset.image_ids):
            info = dataset.image_info[index]
            prediction = self._results.prediction(info["id"])
            yield Item(index, info["id"], info["path"], prediction=prediction, done=prediction is not None)

    def _write(self, chunk: list[Item], make: Callable[[Item], Record], bar: tqdm) -> None:
        """Writes the images of a chunk, and lets go of each when it is written."""
        while chunk:
            item = chunk.pop(0)
            with self._lock:
                if self._ended:
                    return
                if item.error is None:
                    self._record(item, make)
                if item.error is not None:
                    message = self._results.named(item.explain())
                    self._results.fail(item.id, message)
                    self.done.failures.append(message)
            bar.update()

    def _record(self, item: Item, make: Callable[[Item], Record]) -> None:
        """Writes one image's files and takes its rows; sets the item's error where one of its own prevents that."""
        taken: list[Writer] = []
        try:
            record = make(item)
            # Measured before any writer has the image.
            nuclei = len(record.nuclei)
            about = {} if item.done else {**record.identity, "nuclei": nuclei}
        except Exception as error:
            item.error = error
            return
        try:
            for writer in self.writers:
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
                for writer in self.writers:
                    writer.close()
            except OSError as error:
                raise self._named(error) from error
            self._results.finish(complete)

    def _named(self, error: OSError) -> OSError:
        """Returns an error of a staged file as one of the file that was meant."""
        if error.errno is None:
            return OSError(self._results.named(str(error)))
        return OSError(error.errno, error.strerror, self._results.named(str(error.filename or self._results.folder)))
