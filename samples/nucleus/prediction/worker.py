"""Work of a cluster's workers: they read images, find nuclei, and make the results that belong to one image alone."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nucleus.datasets.dataset import NucleusDataset
from nucleus.images.decoding import Planes
from nucleus.images.decoding.base import set_pixel_limit
from nucleus.images.lazy import LazyImage, open_lazy
from nucleus.models.base import Prediction
from nucleus.models.large import TileLooking
from nucleus.models.limits import Limit, UnknownSize, watch_limits
from nucleus.models.parts import Part, Region
from nucleus.models.portable import PortableModel
from nucleus.prediction.chunks import Item, Predict, read
from nucleus.prediction.manifest import identify, program
from nucleus.prediction.writers import Record, open_writers
from nucleus.prediction.writers.base import OF_ONE_FILE

THREADS = "OMP_NUM_THREADS"
_PACKAGES = ("nucleus", "mrcnn", "unet", "trainkit")
_own_program = cache(program)
# Models are not made for several threads, of which a worker may have some.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Reading:
    """Reading of images, as a data set does it.

    Attributes:
        folder: Working folder of the client, from which relative paths start.
        preprocessing: See `NucleusDataset`, as for the other attributes.
        fit: Side of the square that images are scaled to.
        planes: Choice of channel, plane, frame and scene.
        pixel_size: Side of a pixel in µm.
        pixel_limit: Largest number of pixels of an image that is decoded whole.
    """

    folder: Path
    preprocessing: Callable[[np.ndarray], np.ndarray] | None
    fit: int | None
    planes: Planes
    pixel_size: float | None
    pixel_limit: int

    def dataset(self, infos: Sequence[Mapping[str, Any]]) -> NucleusDataset:
        """Returns a data set of some images.

        Args:
            infos: Id, path and place of each image.
        """
        set_pixel_limit(self.pixel_limit)
        dataset = NucleusDataset(
            self.preprocessing, memory_limit=0, fit=self.fit, planes=self.planes, pixel_size=self.pixel_size
        )
        for info in infos:
            dataset.add_image("nucleus", info["id"], str(self.folder / info["path"]), place=info["place"])
        dataset.prepare()
        return dataset


@dataclass(frozen=True)
class Job:
    """Work on the images of a run.

    Attributes:
        start: Function from the data set of a chunk's images to what predicts them.
        reading: Reading of the images.
        program: Versions of the client's program and packages.
        make: Function from a data set and an image with a prediction to its record; None to predict alone.
        formats: Formats with a file an image to write, names in `nucleus.prediction.writers.WRITERS`.
    """

    start: Callable[[NucleusDataset], Predict]
    reading: Reading
    program: Mapping[str, str]
    make: Callable[[NucleusDataset, Item], Record] | None = None
    formats: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """Result of one image.

    Attributes:
        prediction: Nuclei of the image; None where the client has them, and where there are none.
        note: `Item.note` after the prediction.
        record: Record of the image, a `Delivery`; None where none was asked for.
        error: Reason for which the image has no nuclei.
    """

    prediction: Prediction | None = None
    note: Any = None
    record: Record | None = None
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """Result of a chunk.

    Attributes:
        areas: Number of pixels of every image; 0 where it cannot be read.
        found: Result of every image; None if the client took other numbers of pixels for granted.
        log: Name, level and text of the messages that were logged.
    """

    areas: list[int]
    found: list[Found] | None
    log: list[tuple[str, int, str]]


@dataclass(frozen=True)
class Delivery(Record):
    """Record of an image without its pixels, with what was made of them.

    Attributes:
        files: Name of each file of the image in the folder of results -> content.
    """

    files: Mapping[str, bytes] | None = None


def dask_setup(worker: Any) -> None:
    """Leaves Ctrl-C to the client, which closes the worker; called by Dask when a local worker starts.

    Args:
        worker: The worker.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Its tasks end early then, which is meant.
    logging.getLogger("distributed.worker").setLevel(logging.ERROR)


def run_chunk(job: Job, items: Sequence[Item], infos: Sequence[Mapping[str, Any]]) -> Outcome:
    """Reads the images of a chunk, predicts them and makes their records.

    Args:
        job: The run's work.
        items: The images; `area` is the number of pixels by which the chunk was formed.
        infos: Id, path and place of each image.

    Raises:
        ValueError: The worker has other versions than the client, or cannot build the model.
        OSError: A file of the results cannot be made.
    """
    with _at_work(job.program) as log:
        dataset = job.reading.dataset(infos)
        supposed = [item.area for item in items]
        for position, item in enumerate(items):
            item.index, item.area = position, 0
            read(item, dataset.load_image)
        areas = [item.pixels for item in items]
        if areas != supposed:
            return Outcome(areas, None, log)
        job.start(dataset)(items)
        return Outcome(areas, [_finish(job, dataset, item) for item in items], log)


@dataclass(frozen=True)
class TileJob:
    """Work on the tiles of a large image.

    Attributes:
        model: The model.
        program: Versions of the client's program and packages.
        path: File of the image.
        planes: Choice of channel, plane and frame.
        pixel_size: Side of a pixel in µm; None where it is not known.
        level: Level of the pyramid.
        scale: Factor of height and width at which the model is shown the image.
        skip_glass: True to leave out tiles that are empty glass.
    """

    model: PortableModel
    program: Mapping[str, str]
    path: Path
    planes: Planes
    pixel_size: float | None
    level: int
    scale: float
    skip_glass: bool


# Tiles that were looked at, their nuclei, and limits that the model reached.
Seen = tuple[list[Region], list[Part], list[Limit | UnknownSize]]


def run_tile(job: TileJob, number: int) -> Seen:
    """Finds the nuclei of a tile of a large image.

    Args:
        job: The image and the model.
        number: Number of the tile.

    Raises:
        ValueError: The worker has other versions than the client, or cannot build the model.
        ImageFileError: The image is damaged.
    """
    with _at_work(job.program):
        looking = _open.looking(job)
        with watch_limits() as reached:
            regions, parts = looking.look(number)
        return regions, parts, list(reached)


class _OpenImage:
    """The large image that was worked on last, which stays open from tile to tile."""

    def __init__(self) -> None:
        self._key: tuple[Any, ...] | None = None
        self._image: LazyImage | None = None

    def looking(self, job: TileJob) -> TileLooking:
        """Returns what looks at the tiles of a job."""
        status = job.path.stat()
        key = (job.model.key, job.path, repr(job.planes), job.level, job.scale, job.skip_glass, status.st_mtime_ns)
        if key != self._key:
            if self._image is not None:
                self._image.close()
            self._image = open_lazy(job.path, job.planes, job.level)
            model = job.model.get().at_pixel_size(job.pixel_size)
            self._looking = TileLooking.at(model, self._image, job.scale, job.skip_glass)
            self._key = key
        return self._looking


_open = _OpenImage()


@contextmanager
def _at_work(expected: Mapping[str, str]) -> Iterator[list[tuple[str, int, str]]]:
    """Checks the versions, and collects what is logged inside a block."""
    if program() != expected:
        pairs = {name: (expected.get(name), found) for name, found in program().items()}
        differing = ", ".join(
            f"{name} {own} here, {there} there" for name, (own, there) in pairs.items() if own != there
        )
        raise ValueError(f"A worker has other versions than the client, which may find other nuclei: {differing}")
    if THREADS in os.environ:
        cv2.setNumThreads(int(os.environ[THREADS]))
    log: list[tuple[str, int, str]] = []
    handler = _Collecting(log)
    with _one_at_a_time:
        for name in _PACKAGES:
            logging.getLogger(name).addHandler(handler)
        try:
            yield log
        finally:
            for name in _PACKAGES:
                logging.getLogger(name).removeHandler(handler)


class _Collecting(logging.Handler):
    def __init__(self, log: list[tuple[str, int, str]]) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.append((record.name, record.levelno, record.getMessage()))


def _finish(job: Job, dataset: NucleusDataset, item: Item) -> Found:
    """Returns the result of an image, with its record if the job makes them."""
    path = dataset.image_info[item.index]["path"]
    delivery = None
    if item.error is None and job.make is not None:
        try:
            record = job.make(dataset, item)
            nuclei = record.nuclei
            about = {} if item.done else {**identify(path), "file": item.file}
        except Exception as error:
            item.error = error
        else:
            try:
                delivery = _deliver(record, job.formats)
                # What a record makes once is made already.
                vars(delivery).update(nuclei=nuclei, identity=about)
            except Exception as error:
                if isinstance(error, OSError) and error.errno not in OF_ONE_FILE:
                    raise
                item.error = error
    if item.error is not None:
        # The client knows the file by the name that it was given.
        return Found(error=item.explain().replace(path, item.file))
    return Found(None if item.done else item.prediction, item.note, delivery)


def _deliver(record: Record, formats: Sequence[str]) -> Delivery:
    """Makes the files of an image."""
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        for writer in open_writers(folder, formats):
            writer.add(record)
        for path in sorted(path for path in Path(folder).rglob("*") if path.is_file()):
            files[path.relative_to(folder).as_posix()] = path.read_bytes()
    fields = {name: getattr(record, name) for name in Record.__dataclass_fields__}
    fields["image"] = np.zeros((0, 0, 3), np.uint8)
    fields["raw"] = record.raw._replace(pixels=record.raw.pixels[:0])
    return Delivery(**fields, files=files)
