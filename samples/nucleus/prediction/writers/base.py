"""The contract of a writer: one result file format of detection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd

from nucleus.images.decoding import Place, RawImage
from nucleus.measurement import measure
from nucleus.measurement.nuclei import in_order
from trainkit.files import atomic_path


@dataclass(frozen=True)
class Record:
    """One image and the nuclei found in it.

    Attributes:
        id: Name of the image within its data set; a safe file name.
        file: Path of the image file.
        image: uint8 `[H, W, 3]` RGB, as read from the file.
        labels: int32 `[H, W]`, 0 background, 1..N one nucleus each.
        scores: float32 `[N]` in 0..1; `scores[k]` belongs to label k + 1. None where they are not known; labels may
            have gaps then.
        raw: Samples of the file, with all its channels.
        place: Place of the image among all planes and frames that are read of its file; None where only one is.
    """

    id: str
    file: str
    image: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None
    raw: RawImage
    place: Place | None = None

    @cached_property
    def nuclei(self) -> pd.DataFrame:
        """Measurements of the nuclei, see `nucleus.measurement.measure`, made once for all writers."""
        return measure(self.labels, self.raw)


class Writer(ABC):
    """Writes the results of one run in one format.

    `add` is called once an image, then `close` once, after an interruption too. A format with a file an image writes
    it in `add`; one with a single file collects in `add` and writes in `close`. Without any image nothing is written.

    Args:
        folder: Folder of the results; created when the first file is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def add(self, record: Record) -> None:
        """Takes the result of one image.

        Args:
            record: Image and nuclei; later images must not have its id.

        Raises:
            OSError: A file cannot be written.
        """

    def close(self) -> None:  # noqa: B027 - formats with a file an image have nothing left to do.
        """Writes what was collected.

        Raises:
            OSError: A file cannot be written.
        """


class TableWriter(Writer):
    """A CSV file with rows for every image.

    Attributes:
        name: Name of the file.
        columns: Names of its columns in their order. Those that no image has are left out; others follow.
        numbered: True for a file with the columns `frame` and `plane` where all frames or planes are read.
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]
    numbered: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._tables: list[pd.DataFrame] = []

    @abstractmethod
    def table(self, record: Record) -> pd.DataFrame:
        """Returns the rows of one image."""

    def add(self, record: Record) -> None:
        """Keeps the rows of one image, with the number of its frame and plane; see `Writer.add`."""
        table = self.table(record)
        if record.place is not None and self.numbered:
            for position, (name, number) in enumerate(record.place.numbers.items(), start=1):
                table.insert(position, name, number)
        self._tables.append(table)

    def close(self) -> None:
        """Writes the file if there was an image; see `Writer.close`."""
        if not self._tables:
            return
        order = (self.columns[0], "frame", "plane", *self.columns[1:])
        columns = in_order(dict.fromkeys(name for table in self._tables for name in table.columns), order)
        filled = [table for table in self._tables if len(table)]
        joined = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame()
        with atomic_path(self.folder / self.name) as temporary:
            joined.reindex(columns=columns).to_csv(
                temporary, index=False, float_format=number_text, lineterminator="\n"
            )


def number_text(number: float) -> str:
    """Writes a number with four decimals, or with four digits where those are more.

    Args:
        number: The number.
    """
    return f"{number:.4f}" if abs(number) >= 0.1 or number == 0 else f"{number:.4g}"
