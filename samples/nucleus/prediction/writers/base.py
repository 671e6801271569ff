"""The contract of a writer: one result file format of detection."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from nucleus.images.decoding import Place, RawImage
from nucleus.measurement import measure
from nucleus.prediction.manifest import identify

# Errors of the system that are a single image's, such as a name that is too long for a file's.
OF_ONE_FILE = (errno.ENAMETOOLONG, errno.EILSEQ)


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
        scale: Factor of height and width at which the model was shown the image; None without a model.
        diameter: Diameter of the nuclei in pixels from which the factor was found; None where it was not looked for.
    """

    id: str
    file: str
    image: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None
    raw: RawImage
    place: Place | None = None
    scale: float | None = None
    diameter: float | None = None

    @cached_property
    def nuclei(self) -> pd.DataFrame:
        """Measurements of the nuclei, see `nucleus.measurement.measure`, made once for all writers."""
        return measure(self.labels, self.raw)

    @cached_property
    def identity(self) -> Mapping[str, Any]:
        """Name, size, time of change and SHA-256 of the image's file; see `nucleus.prediction.manifest.identify`."""
        return identify(self.file)


class Writer(ABC):
    """Writes the results of one run in one format.

    `add` is called once an image, then `close` once, after an interruption too. A format with a file an image writes
    it in `add`; one with a single file collects in `add` and writes in `close`. Without any image nothing is written.

    Args:
        folder: Folder to write into; created when the first file is written. Files are moved from there to the folder
            of the results.

    Attributes:
        summary: Files of the format in a few words, for the help.
        package: Package that it needs besides the base installation; None if it needs none.
        extra: Extra of the installation that has the package.
        by_image: True for a format with a file an image that holds nothing from one image to the next, so that the
            workers of a cluster can make its files.
    """

    summary: ClassVar[str]
    package: ClassVar[str | None] = None
    extra: ClassVar[str] = "exchange"
    by_image: ClassVar[bool] = False

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

    def add_row(self, image_id: str, row: Mapping[str, Any]) -> None:  # noqa: B027 - only tables have rows of images.
        """Takes the row of an image that is too large for memory, whose own files are written elsewhere.

        Args:
            image_id: Name of the image; later images must not have it.
            row: Its values in the table of images.
        """

    def drop(self, record: Record) -> None:  # noqa: B027 - formats with a file an image collect nothing.
        """Forgets an image that `add` may have taken, since another writer could not; its files are removed elsewhere.

        Args:
            record: Image and nuclei, as `add` was given them last.
        """

    def close(self) -> None:  # noqa: B027 - formats with a file an image have nothing left to do.
        """Writes what was collected.

        Raises:
            OSError: A file cannot be written.
        """
