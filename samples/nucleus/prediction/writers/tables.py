"""Tables of a run: their rows for one image, their collection over all images, and the base of their writers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pandas as pd

from nucleus.images.labels import labels_to_rle
from nucleus.measurement import summarise
from nucleus.measurement.nuclei import COLUMNS as NUCLEI_COLUMNS
from nucleus.measurement.nuclei import SUMMARY_COLUMNS, in_order
from nucleus.prediction.writers.base import Record, Writer


class Table(NamedTuple):
    """A table with rows for every image.

    Attributes:
        name: Name of the table.
        columns: Names of its columns in their order. Those that no image has are left out; others follow.
        rows: Function that makes the rows of one image.
        given: Columns of numbers that were not measured, and are not rounded.
        numbered: True for the columns `frame` and `plane` where all frames or planes of a file are read.
    """

    name: str
    columns: tuple[str, ...]
    rows: Callable[[Record], pd.DataFrame]
    given: tuple[str, ...] = ()
    numbered: bool = True


class TableRows:
    """Rows of a table, collected image by image.

    Args:
        table: The table.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self._parts: dict[str, pd.DataFrame] = {}

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, record: Record) -> None:
        """Keeps the rows of one image, with the numbers of its frame and plane."""
        rows = self.table.rows(record)
        if record.place is not None and self.table.numbered:
            for position, (name, number) in enumerate(record.place.numbers.items(), start=1):
                rows.insert(position, name, number)
        self._parts[record.id] = rows

    def add_row(self, image_id: str, row: Mapping[str, Any]) -> None:
        """Keeps the only row of an image."""
        self._parts[image_id] = pd.DataFrame([row])

    def drop(self, record: Record) -> None:
        """Drops the rows of one image, if they were kept."""
        self._parts.pop(record.id, None)

    def joined(self) -> pd.DataFrame:
        """Returns the rows of all images, with the columns in their order."""
        parts = self._parts.values()
        first, *others = self.table.columns
        order = (first, "frame", "plane", *others)
        columns = in_order(dict.fromkeys(name for part in parts for name in part.columns), order)
        filled = [part for part in parts if len(part)]
        return (pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()).reindex(columns=columns)


def _nuclei(record: Record) -> pd.DataFrame:
    """Returns the measurements of an image's nuclei, see `nucleus.measurement.measure`, with image and scores."""
    table = record.nuclei.copy()
    table.insert(0, "ImageId", record.id)
    known = record.scores is not None
    table.insert(2, "score", np.asarray(record.scores)[table["label"].to_numpy() - 1] if known else np.nan)
    return table


def _image(record: Record) -> pd.DataFrame:
    """Returns the row of one image: file, size, number of nuclei, and the columns of `summarise`."""
    height, width = record.labels.shape
    row = {"ImageId": record.id, "file": record.file, "height": height, "width": width}
    size = record.raw.pixel_size
    row |= {"nuclei": len(record.nuclei), **summarise(record.nuclei, (height, width), size)}
    row |= {} if record.scale is None else {"scale": record.scale, "diameter": record.diameter}
    return pd.DataFrame([row])


def _run_lengths(record: Record) -> pd.DataFrame:
    """Encodes the nuclei of one image as run lengths; one row without any where there is none."""
    codes = [code for code in labels_to_rle(record.labels) if code] or [""]
    return pd.DataFrame([(record.id, code) for code in codes], columns=RUN_LENGTHS.columns)


NUCLEI = Table("nuclei", ("ImageId", "label", "score", *NUCLEI_COLUMNS[1:]), _nuclei)
IMAGES = Table(
    "images",
    ("ImageId", "file", "height", "width", "nuclei", *SUMMARY_COLUMNS, "scale", "diameter", "level", "downsampling"),
    _image,
    ("pixel_size_um",),
)
RUN_LENGTHS = Table("submission", ("ImageId", "EncodedPixels"), _run_lengths, numbered=False)


class TableWriter(Writer):
    """Base class of writers that collect the rows of tables, and write them in `close`.

    Attributes:
        tables: The tables.
    """

    tables: ClassVar[tuple[Table, ...]] = (NUCLEI, IMAGES)

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._rows = [TableRows(table) for table in self.tables]

    def add(self, record: Record) -> None:
        """Keeps the rows of one image; see `Writer.add`."""
        for rows in self._rows:
            rows.add(record)

    def add_row(self, image_id: str, row: Mapping[str, Any]) -> None:
        """Keeps the row of an image; see `Writer.add_row`."""
        for rows in self._rows:
            if rows.table is IMAGES:
                rows.add_row(image_id, row)

    def drop(self, record: Record) -> None:
        """Drops the rows of one image; see `Writer.drop`."""
        for rows in self._rows:
            rows.drop(record)
