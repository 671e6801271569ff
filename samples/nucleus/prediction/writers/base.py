"""The contract of a writer: one result file format of detection."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd

from trainkit.files import atomic_path


class Record(NamedTuple):
    """One image and the nuclei found in it.

    Attributes:
        id: Name of the image within its data set; a safe file name.
        file: Path of the image file.
        image: uint8 `[H, W, 3]` RGB, as read from the file.
        labels: int32 `[H, W]`, 0 background, 1..N one nucleus each.
        scores: float32 `[N]` in 0..1; `scores[k]` belongs to label k + 1.
    """

    id: str
    file: str
    image: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


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
        columns: Names of its columns.
    """

    name: ClassVar[str]
    columns: ClassVar[tuple[str, ...]]

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._tables: list[pd.DataFrame] = []

    @abstractmethod
    def table(self, record: Record) -> pd.DataFrame:
        """Returns the rows of one image, with `columns` if there are any."""

    def add(self, record: Record) -> None:
        """Keeps the rows of one image; see `Writer.add`."""
        self._tables.append(self.table(record))

    def close(self) -> None:
        """Writes the file if there was an image; see `Writer.close`."""
        if not self._tables:
            return
        filled = [table for table in self._tables if len(table)]
        joined = pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=self.columns)
        with atomic_path(self.folder / self.name) as temporary:
            joined.to_csv(temporary, index=False, float_format="%.4f", lineterminator="\n")
