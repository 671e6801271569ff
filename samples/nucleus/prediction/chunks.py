"""Chunks of images: read ahead by a thread, and shown to a model together, since like sizes share network batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.limits import log_limits, warn_of_limits, watch_limits
from nucleus.models.scale import PhysicalScale

_log = logging.getLogger(__name__)

# Most images of a chunk, and pixels in them: enough for a network's batches, and little to lose where a run is killed.
# A larger image is alone.
CHUNK_IMAGES = 8
CHUNK_PIXELS = 4 * 2**20


@dataclass
class Item:
    """One image on its way from its file to its nuclei.

    Attributes:
        index: Number of the image in its data set.
        id: Name of the image in its data set.
        file: Path of its file, for messages.
        image: uint8 `[H, W, 3]` RGB; None before it is read, and where it cannot be.
        prediction: Nuclei of the image; None before they are predicted, and where they cannot be.
        done: True if the nuclei are known from an earlier run, and stay as they are.
        error: Reason for which the image has no nuclei.
        area: Number of pixels that the image is taken to have where it is not read in this process.
        note: Further input of the prediction, or further result of it, that goes with the image.
        made: Record of the image where another process has made it, a `nucleus.prediction.writers.Record`.
    """

    index: int
    id: str
    file: str
    image: np.ndarray | None = None
    prediction: Prediction | None = None
    done: bool = False
    error: Exception | None = None
    area: int = 0
    note: Any = None
    made: Any = None

    @property
    def pixels(self) -> int:
        """Number of the image's pixels."""
        return self.area if self.image is None else self.image.shape[0] * self.image.shape[1]

    def explain(self) -> str:
        """Returns the reason for which the image has no nuclei, with the name of its file."""
        error, text = self.error, str(self.error)
        if isinstance(error, MemoryError):
            text = "the image does not fit into memory"
            if self.image is not None:
                height, width = self.image.shape[:2]
                text = f"{width} x {height} pixels need more memory than there is; lower TILE_SIZE"
        elif not isinstance(error, ValueError | OSError):
            text = f"{type(error).__name__}: {text}"
        return text if self.file in text else f"{self.file}: {text}"


# Gives every image of a chunk that has none a prediction or an error.
Predict = Callable[[Sequence[Item]], None]


def read_chunks(items: Iterable[Item], load: Callable[[int], np.ndarray]) -> Iterator[list[Item]]:
    """Reads images and gathers consecutive ones; see `divide`.

    Args:
        items: Images to read; one that cannot be read gets its error.
        load: Function from an image's number to its pixels, uint8 `[H, W, 3]` RGB.

    Yields:
        Chunks of images.
    """
    return divide(read(item, load) for item in items)


def read(item: Item, load: Callable[[int], np.ndarray]) -> Item:
    """Reads an image; one that cannot be read gets its error.

    Args:
        item: The image, which is changed and returned.
        load: Function from an image's number to its pixels, uint8 `[H, W, 3]` RGB.
    """
    try:
        item.image = load(item.index)
    except Exception as error:
        item.error = error
    return item


def divide(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Gathers consecutive images.

    The division depends on the images alone, not on what is done already: a network's numbers may depend, in their last
    digits, on the batch, and a resumed run must find what an undisturbed one finds.

    Args:
        items: Images whose number of pixels is known.

    Yields:
        Chunks of up to `CHUNK_IMAGES` images and `CHUNK_PIXELS` pixels, or of one larger image.
    """
    chunk: list[Item] = []
    held = 0
    for item in items:
        if chunk and (len(chunk) == CHUNK_IMAGES or held + item.pixels > CHUNK_PIXELS):
            yield chunk
            chunk, held = [], 0
        chunk.append(item)
        held += item.pixels
        # A full chunk does not wait for the next image, beside which it would be in memory.
        del item
        if held >= CHUNK_PIXELS:
            yield chunk
            chunk, held = [], 0
    if chunk:
        yield chunk


def read_ahead(chunks: Iterator[list[Item]]) -> Iterator[list[Item]]:
    """Reads the next chunk in a thread while the caller works on one; beside a large image nothing is read.

    Args:
        chunks: The chunks.

    Yields:
        The chunks in their order. A large one is emptied when the next is asked for.
    """
    with ThreadPoolExecutor(1, "read") as reader:
        coming = reader.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            if not is_large(chunk):
                coming = reader.submit(next, chunks, None)
                yield chunk
            else:
                yield chunk
                # The image leaves the memory before the next one comes.
                chunk.clear()
                coming = reader.submit(next, chunks, None)


def is_large(chunk: Sequence[Item]) -> bool:
    """Returns whether a chunk is one image of more than `CHUNK_PIXELS`, beside which no other is kept in memory."""
    return sum(item.pixels for item in chunk) > CHUNK_PIXELS


def predict_together(model: NucleusModel, pixel_size: Callable[[int], float | None] = lambda index: None) -> Predict:
    """Returns a function that shows a model all images of a chunk at once.

    Where that fails, the images are predicted one by one, so that the failure of one is its own. A chunk whose images
    are all done is passed over; otherwise all go through the model, so that its batches are always the same.

    Args:
        model: The model.
        pixel_size: Function from an image's number to the side of its pixels in µm, None where that is not known; asked
            only for a model whose scale follows from it, which is shown images of one size together.
    """

    def predict(chunk: Sequence[Item]) -> None:
        items = [item for item in chunk if item.error is None]
        if all(item.done for item in items):
            return
        if not isinstance(model, PhysicalScale):
            predict_by(model, items)
            return
        sizes: dict[float, list[Item]] = {}
        models: dict[float, NucleusModel] = {}
        for item in items:
            try:
                size = pixel_size(item.index)
                models[size] = model.at_pixel_size(size)
                sizes.setdefault(size, []).append(item)
            except Exception as error:
                item.error = error
        for size, alike in sizes.items():
            predict_by(models[size], alike)

    def predict_by(shown: NucleusModel, items: Sequence[Item]) -> None:
        try:
            with watch_limits() as reached:
                predictions = shown.predict([item.image for item in items])
        except Exception as error:
            _log.debug("%s", items[0].file, exc_info=error)
            if len(items) == 1:
                items[0].error = error
            for item in items if len(items) > 1 else ():
                predict_by(shown, [item])
            return
        log_limits((limit for limit in reached if not items[limit.index].done), [item.file for item in items])
        for item, prediction in zip(items, predictions, strict=True):
            if not item.done:
                item.prediction = prediction

    return predict


def predict_singly(find: Callable[[str, np.ndarray], Prediction]) -> Predict:
    """Returns a function that finds the nuclei of one image of a chunk after the other.

    Args:
        find: Function from an image's id and its pixels, uint8 `[H, W, 3]` RGB, to labels (int32 `[H, W]`, 1..N) and
            scores (float32 `[N]`).
    """

    def predict(chunk: Sequence[Item]) -> None:
        for item in chunk:
            if item.error is not None or item.done:
                continue
            try:
                with warn_of_limits(item.file):
                    item.prediction = find(item.id, item.image)
            except Exception as error:
                _log.debug("%s", item.file, exc_info=error)
                item.error = error

    return predict
