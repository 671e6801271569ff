"""Samples, each an image file and the source of its labels, and the interface of the layouts that list them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

UNKNOWN_MODALITY = "unknown"
# Name of the scores of all images in tables; no modality may have it.
EVERY_MODALITY = "all"


class DatasetError(ValueError):
    """Error of a data set that cannot be used; the message names the file or folder and the cause."""


class Truth(Protocol):
    """Source of the label image of one sample; picklable, for worker processes.

    Attributes:
        path: File or folder with the labels.
    """

    path: Path

    def files(self) -> list[Path]:
        """Returns the files that the label image is made from, besides the image itself."""

    def read(self, image: Path) -> np.ndarray:
        """Makes the label image.

        Args:
            image: Path of the sample's image.

        Returns:
            int32 [H, W], labels 1...N without a gap, of the image's height and width.

        Raises:
            DatasetError: The labels are malformed or of another shape than the image.
            nucleus.images.reading.ImageFileError: A file cannot be read.
        """


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    Attributes:
        id: Unique name of the image within its collection; a safe file name.
        image: Path of the image file.
        truth: Source of the labels; None for an image without labels.
        collection: Name of the part of the data set that the image is in; a safe file name.
        modality: Kind of microscopy, or `UNKNOWN_MODALITY`.
    """

    id: str
    image: Path
    truth: Truth | None
    collection: str
    modality: str = UNKNOWN_MODALITY


# Handles the error of one image: raises it, or notes it and lets reading go on.
Report = Callable[[DatasetError], None]
# Lists the samples of one named part of a data set.
Part = Callable[[Report], list[Sample]]


@dataclass(frozen=True)
class Layout:
    """A layout of data sets in files.

    Attributes:
        name: Value of `--layout`.
        summary: Files of the layout in a few words.
        recognises: Function that checks whether a folder or file has this layout, without reading all of it.
        parts: Function from a data set's path to the readers of its named parts, by name. "train", "val" and "all" have
            a special meaning; see `nucleus.datasets.layouts.subsets`.
    """

    name: str
    summary: str
    recognises: Callable[[Path], bool]
    parts: Callable[[Path], Mapping[str, Part]]


def raise_error(error: DatasetError) -> None:
    """Raises an error: the `Report` that stops reading at the first unusable image."""
    raise error
