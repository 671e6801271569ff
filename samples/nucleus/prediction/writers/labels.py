"""Label images, `labels/<id>.png` (16 bit), `.tif` (with the size of a pixel, ImageJ's or OME's) or `.zarr` (OME).

Those of all planes and frames of one file also together, `stacks/<file>.ome.tif`.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from nucleus.images.decoding import Place
from nucleus.images.reading import read_labels
from nucleus.images.writing import HIGHEST_IN_16_BITS, write_label_stack, write_labels
from nucleus.prediction.writers.base import Record, Writer

LABELS_FOLDER = "labels"
STACKS_FOLDER = "stacks"
_log = logging.getLogger(__name__)

# A compressed label image, its type and its shape.
_Packed = tuple[bytes, np.dtype, tuple[int, ...]]


class PngLabels(Writer):
    """16-bit PNG label images."""

    summary = "label images, 16-bit PNG"

    suffix: ClassVar[str] = ".png"
    by_image = True

    def add(self, record: Record) -> None:
        """Writes the label image of one image.

        Raises:
            ValueError: There are more nuclei than the format can number.
            OSError: The file cannot be written.
        """
        path = self.folder / LABELS_FOLDER / f"{record.id}{self.suffix}"
        write_labels(path, record.labels, record.raw.pixel_size)


class TiffLabels(PngLabels):
    """TIFF label images: uint16 for ImageJ, or int32 in an OME-TIFF above 65,535 nuclei."""

    summary = "label images, TIFF"
    suffix = ".tif"


class ZarrLabels(PngLabels):
    """OME-Zarr label images of int32."""

    summary = "label images, OME-Zarr"
    suffix = ".zarr"
    package, extra = "zarr", "zarr"


class LabelStacks(Writer):
    """OME-TIFF of the axes T, Z, Y and X, for files of which all planes or frames are read.

    Labels are those of the label image of each plane: numbered in each by itself, not linked from plane to plane. The
    label images are kept compressed until a file is complete. One that stays incomplete, since a plane failed, is not
    written, and a warning says so.
    """

    summary = "label images of all planes and frames of a file, OME-TIFF"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._planes: dict[str, dict[int, _Packed]] = {}
        self._places: dict[str, tuple[Place, float | None]] = {}

    def add(self, record: Record) -> None:
        """Keeps the labels of one image, and writes the stack of its file if it is the last one; see `Writer.add`."""
        place = record.place
        if place is None:
            return
        planes = self._planes.setdefault(place.stack, {})
        planes[place.index] = _pack(record.labels)
        self._places[place.stack] = place, record.raw.pixel_size
        if len(planes) == place.frames * place.planes:
            self._write(place.stack)

    def drop(self, record: Record) -> None:
        """Drops the labels of one image, unless the stack of its file is written already; see `Writer.drop`."""
        if record.place is not None:
            self._planes.get(record.place.stack, {}).pop(record.place.index, None)

    def close(self) -> None:
        """Completes stacks by the label images of an earlier, interrupted run, or warns; see `Writer.close`."""
        for stack, planes in list(self._planes.items()):
            place, _ = self._places[stack]
            count = place.frames * place.planes
            self._complete(place, planes)
            if len(planes) == count:
                self._write(stack)
                continue
            _log.warning(
                "%s: %d of %d planes have labels, so no stack of them is written; each is in labels/",
                stack,
                len(planes),
                count,
            )

    def _complete(self, one: Place, planes: dict[int, _Packed]) -> None:
        for index in set(range(one.frames * one.planes)) - set(planes):
            frame, plane = divmod(index, one.planes)
            place = one._replace(frame=one.frame and frame + 1, plane=one.plane and plane + 1)
            names = (f"{place.stack}{place.suffix}{suffix}" for suffix in (".png", ".tif"))
            path = next((file for name in names if (file := self.folder / LABELS_FOLDER / name).is_file()), None)
            if path is not None:
                planes[index] = _pack(read_labels(path))

    def _write(self, stack: str) -> None:
        planes = self._planes.pop(stack)
        place, size = self._places.pop(stack)
        dtype = np.result_type(*(dtype for _, dtype, _ in planes.values()))
        shape = planes[0][2]

        def pages() -> Iterator[np.ndarray]:
            for index in range(len(planes)):
                data, own, _ = planes[index]
                yield np.frombuffer(zlib.decompress(data), own).reshape(shape).astype(dtype)

        path = self.folder / STACKS_FOLDER / f"{stack}.ome.tif"
        write_label_stack(path, pages(), (place.frames, place.planes, *shape), dtype, size)


def _pack(labels: np.ndarray) -> _Packed:
    labels = labels.astype(np.uint16 if int(labels.max(initial=0)) <= HIGHEST_IN_16_BITS else np.int32)
    return zlib.compress(np.ascontiguousarray(labels), 1), labels.dtype, labels.shape
