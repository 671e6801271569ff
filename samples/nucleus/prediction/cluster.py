"""A run on several processes or machines by Dask: images, and tiles of large ones, are sent to workers.

Chunks of images are those of a run in one process, and their results are taken in the order of the images, so that a
run on a cluster leaves the same folder, byte for byte. Workers read the images, predict them, measure the nuclei and
make the files of each image; the client writes. When a worker dies, Dask gives the chunks that it had to others.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nucleus.datasets.dataset import NucleusDataset
from nucleus.images.decoding import open_image
from nucleus.images.lazy import LazyImage
from nucleus.models.limits import report_limit
from nucleus.models.parts import Part, Region
from nucleus.models.portable import PortableModel, forget_models
from nucleus.prediction.chunks import Item, divide
from nucleus.prediction.manifest import program
from nucleus.prediction.worker import (
    THREADS,
    Found,
    Job,
    Outcome,
    TileJob,
    dask_setup,
    run_chunk,
    run_tile,
)

if TYPE_CHECKING:
    from distributed import Client, Future

_log = logging.getLogger(__name__)

# Environment variables by which libraries limit their threads.
_THREAD_VARIABLES = (
    *(THREADS, "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
)
# Seconds to wait for a scheduler, and for its first worker.
_PATIENCE = 60
# Chunks under way for every worker, and seconds after which the workers are counted again.
_AHEAD, _RECOUNT = 2, 5.0


class ClusterError(ValueError):
    """A cluster cannot be started, reached or used."""


class Cluster:
    """Workers of Dask, as a context manager: processes of this machine, or those of a scheduler that runs already.

    A local worker has one task at a time, and as many threads as it has cores for itself: cores / workers.

    Args:
        workers: Number of processes to start on this machine; None for those of `scheduler`.
        scheduler: Address of a scheduler, such as "tcp://10.0.0.1:8786".

    Raises:
        ClusterError: Neither or both are given, there is no positive number of workers, or Dask is not installed. On
            entering: workers cannot be started, or there is no scheduler at the address or no worker there.
    """

    def __init__(self, workers: int | None = None, scheduler: str | None = None) -> None:
        if (workers is None) == (scheduler is None):
            raise ClusterError("Either workers are started or those of a scheduler are used. Received: both or none.")
        if workers is not None and workers < 1:
            raise ClusterError(f"Expected a number of workers from 1 on. Received: {workers}")
        if importlib.util.find_spec("distributed") is None:
            raise ClusterError(
                "Workers and schedulers need Dask's distributed, which is not installed: pip install \"keras-nucleus"
                '[cluster]"'
            )
        self.workers, self.scheduler = workers, scheduler
        self._client: Client | None = None
        self._local: Any = None
        self._count, self._counted = 1, 0.0
        self._level = logging.NOTSET

    def __enter__(self) -> Cluster:
        from distributed import Client

        # Who comes and goes is of no interest, but whoever dies is.
        log = logging.getLogger("distributed")
        self._level = log.level
        log.setLevel(max(log.level, logging.WARNING))
        try:
            if self.workers is not None:
                self._local = _start_workers(self.workers)
            self._client = Client(self._local or self.scheduler, timeout=_PATIENCE, set_as_default=False)
            self._client.wait_for_workers(1, timeout=_PATIENCE)
        except (OSError, RuntimeError, asyncio.TimeoutError) as error:
            self.__exit__()
            where = "this machine" if self.scheduler is None else self.scheduler
            raise ClusterError(f"{where}: no worker of Dask within {_PATIENCE} s ({error})") from error
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("distributed").setLevel(logging.ERROR)
        # What is done is done, however long Dask takes to end; it kills workers that do not end by themselves.
        if self._client is not None:
            with suppress(Exception):
                if self._local is None and self._client.status == "running":
                    self._client.run(forget_models, on_error="ignore")
                self._client.close(timeout=_PATIENCE)
        if self._local is not None:
            with suppress(Exception):
                self._local.close(timeout=_PATIENCE)
        self._client = self._local = None
        logging.getLogger("distributed").setLevel(self._level)

    def run(self, job: Job, items: Iterable[Item], dataset: NucleusDataset) -> Iterator[list[Item]]:
        """Works on images.

        Chunks are formed by the numbers of pixels in the files' headers. Where a worker finds another number, such as
        none in a damaged file, the images that are not done are divided anew.

        Args:
            job: The work.
            items: The images.
            dataset: Prepared data set of the images.

        Yields:
            Chunks of images in their order, as `nucleus.prediction.chunks.divide` forms them, with nuclei or an error
            and, where the job makes them, their records.

        Raises:
            ClusterError: The cluster is lost.
        """
        stream = _Stream(items, dataset)
        waiting: deque[tuple[list[Item], Future]] = deque()
        try:
            while True:
                while len(waiting) < self._window and (chunk := stream.take()):
                    waiting.append((chunk, self._submit(run_chunk, job, chunk, _infos(chunk, dataset))))
                if not waiting:
                    return
                chunk, future = waiting.popleft()
                outcome = self._outcome(future, job, chunk, dataset)
                if outcome.found is None:
                    for item, area in zip(chunk, outcome.areas, strict=True):
                        item.area = area
                    self._cancel(future for _, future in waiting)
                    waiting.clear()
                    stream.return_all()
                    continue
                stream.done(len(chunk))
                for name, level, text in outcome.log:
                    logging.getLogger(name).log(level, "%s", text)
                for item, found in zip(chunk, outcome.found, strict=True):
                    _merge(item, found)
                yield chunk
        finally:
            self._cancel(future for _, future in waiting)

    def tiles(
        self, model: PortableModel, skip_glass: bool, image: LazyImage, scale: float, numbers: Iterable[int]
    ) -> Iterator[tuple[int, list[Region], list[Part]]]:
        """Looks at tiles of a large image; see `nucleus.models.large.predict_large`.

        Args:
            model: The model.
            skip_glass: True to leave out tiles that are empty glass.
            image: The image; workers open its file.
            scale: Factor of height and width at which the model is shown the image.
            numbers: Numbers of the tiles.

        Yields:
            Number, tiles that were looked at, and their nuclei.

        Raises:
            ClusterError: The cluster is lost.
        """
        job = TileJob(
            model=model,
            program=program(),
            path=image.path.absolute(),
            planes=image.planes,
            pixel_size=image.pixel_size,
            level=image.level,
            scale=scale,
            skip_glass=skip_glass,
        )
        coming = iter(numbers)
        waiting: deque[tuple[int, Future]] = deque()
        try:
            while True:
                while len(waiting) < self._window and (number := next(coming, None)) is not None:
                    waiting.append((number, self._submit(run_tile, job, number)))
                if not waiting:
                    return
                number, future = waiting.popleft()
                regions, parts, reached = self._result(future)
                for limit in reached:
                    report_limit(limit)
                yield number, regions, parts
        finally:
            self._cancel(future for _, future in waiting)

    @property
    def _window(self) -> int:
        """Number of chunks under way."""
        now = time.monotonic()
        if now - self._counted > _RECOUNT:
            self._count, self._counted = max(1, len(self._client.nthreads())), now
        return _AHEAD * self._count + 1

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return self._client.submit(function, *arguments, pure=False)

    def _cancel(self, futures: Iterable[Future]) -> None:
        left = list(futures)
        if left and self._client is not None and self._client.status == "running":
            self._client.cancel(left)

    def _outcome(self, future: Future, job: Job, chunk: Sequence[Item], dataset: NucleusDataset) -> Outcome:
        """Returns the result of a chunk; where it kills workers again and again, that of each image by itself."""
        from distributed import KilledWorker

        for _ in range(2):
            try:
                return self._result(future)
            except KilledWorker:
                # Others on the same workers may have been the cause.
                future = self._submit(run_chunk, job, chunk, _infos(chunk, dataset))
        try:
            return self._result(future)
        except KilledWorker as error:
            if len(chunk) == 1:
                text = f"{chunk[0].file}: every worker that was given it died; it may need more memory than there is"
                _log.debug("%s", text, exc_info=error)
                return Outcome([chunk[0].area], [Found(error=text)], [])
        singly = [self._submit(run_chunk, job, [item], _infos([item], dataset)) for item in chunk]
        parts = [self._outcome(one, job, [item], dataset) for one, item in zip(singly, chunk, strict=True)]
        found = None if any(part.found is None for part in parts) else [one for part in parts for one in part.found]
        return Outcome([part.areas[0] for part in parts], found, [line for part in parts for line in part.log])

    def _result(self, future: Future) -> Any:
        from concurrent.futures import CancelledError

        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        try:
            return future.result()
        except (CancelledError, CommClosedError) as error:
            raise ClusterError(
                "The scheduler is lost. What is done is in the folder of results; --resume goes on from there"
            ) from error
        except (ValueError, OSError, KilledWorker):
            raise
        except Exception as error:
            raise ClusterError(f"A worker cannot do its work: {type(error).__name__}: {error}") from error


@contextmanager
def wanted_cluster(workers: int | None = None, scheduler: str | None = None) -> Iterator[Cluster | None]:
    """Starts the workers that are asked for, or reaches the scheduler, while a block runs.

    Args:
        workers: Number of processes to start; None for none.
        scheduler: Address of a scheduler; None for none.

    Yields:
        The cluster; None where neither is asked for.

    Raises:
        ClusterError: See `Cluster`.
    """
    asked = workers is not None or scheduler is not None
    with Cluster(workers, scheduler) if asked else nullcontext() as cluster:
        yield cluster


def _start_workers(number: int) -> Any:
    import dask
    from dask.system import CPU_COUNT
    from distributed import LocalCluster

    threads = max(1, CPU_COUNT // number)
    if number > CPU_COUNT:
        _log.warning("%d workers share %d cores, and will not be faster than %d", number, CPU_COUNT, CPU_COUNT)
    # A variable that is set already is kept.
    limits = {f"distributed.nanny.pre-spawn-environ.{name}": threads for name in _THREAD_VARIABLES}
    with dask.config.set(limits):
        # Without a limit of memory, as in one process: at a limit workers would pause, or be ended.
        return LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            memory_limit=0,
            preload=[dask_setup.__module__],
        )


class _Stream:
    """Images on their way into chunks, which can be taken back and divided anew.

    Args:
        items: The images.
        dataset: Prepared data set of the images.
    """

    def __init__(self, items: Iterable[Item], dataset: NucleusDataset) -> None:
        self._items, self._dataset = iter(items), dataset
        self._returned: deque[Item] = deque()
        self._out: deque[Item] = deque()
        self._chunks = divide(self._coming())

    def take(self) -> list[Item] | None:
        """Returns the next chunk; None after the last."""
        return next(self._chunks, None)

    def done(self, count: int) -> None:
        """Notes that the first images are done."""
        for _ in range(count):
            self._out.popleft()

    def return_all(self) -> None:
        """Takes back all images that are not done."""
        self._returned.extendleft(reversed(self._out))
        self._out.clear()
        self._chunks = divide(self._coming())

    def _coming(self) -> Iterator[Item]:
        while True:
            if self._returned:
                item = self._returned.popleft()
            elif (item := next(self._items, None)) is None:
                return
            else:
                item.area = _area(self._dataset, item.index)
            self._out.append(item)
            yield item


def _area(dataset: NucleusDataset, index: int) -> int:
    """Returns the number of pixels of an image by the header of its file; 0 where it cannot be read."""
    if dataset.fit is not None:
        return dataset.fit**2
    path = Path(dataset.image_info[index]["path"])
    try:
        if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp"):
            from PIL import Image

            with Image.open(path) as image:
                return image.width * image.height
        with open_image(path, planes=dataset.planes_of(index)) as image:
            return image.shape[0] * image.shape[1]
    except (OSError, ValueError):
        return 0


def _infos(chunk: Sequence[Item], dataset: NucleusDataset) -> list[Mapping[str, Any]]:
    infos = [dataset.image_info[item.index] for item in chunk]
    return [{"id": info["id"], "path": os.fspath(info["path"]), "place": info.get("place")} for info in infos]


def _merge(item: Item, found: Found) -> None:
    """Sets the result of an image."""
    if found.error is not None:
        item.error = ValueError(found.error)
        return
    if not item.done:
        item.prediction = found.prediction
    item.note, item.made = found.note, found.record
