"""What every reader of a data set gives: samples, each an image file and where its labels come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

UNKNOWN_MODALITY = "unknown"
# Under this name tables have the scores of all images.
EVERY_MODALITY = "all"


class DatasetError(ValueError):
    """A dataset that cannot be used as asked; the message names the file or folder and the cause."""


class Truth(Protocol):
    """Where the label image of one sample comes from. It is pickled for worker processes.

    Attributes:
        path: the file or folder with the labels.
    """

    path: Path

    def files(self) -> list[Path]:
        """The files that the label image is made from, besides the image itself."""

    def read(self, image: Path) -> np.ndarray:
        """Makes the label image.

        Args:
            image: the image file that the labels belong to.

        Returns:
            int32 [H, W], labels 1...N without a gap, [H, W] those of the image.

        Raises:
            DatasetError: the labels are malformed or of another shape than the image.
            nucleus.images.reading.ImageFileError: a file cannot be used.
        """


@dataclass(frozen=True)
class Sample:
    """One image of a data set.

    Attributes:
        id: names the image within its data set; a safe file name.
        image: the image file.
        truth: where its labels come from; None where it has none.
        collection: names the part of the data set within which `id` is unique; a safe file name.
        modality: kind of microscopy, or `UNKNOWN_MODALITY`.
    """

    id: str
    image: Path
    truth: Truth | None
    collection: str
    modality: str = UNKNOWN_MODALITY


# Takes what is wrong with one image: raises it, or notes it so that the others go on.
Report = Callable[[DatasetError], None]
# Reads one named part of a data set.
Part = Callable[[Report], list[Sample]]


@dataclass(frozen=True)
class Layout:
    """A way to lay a data set out in files.

    Attributes:
        name: what `--layout` calls it.
        summary: what it looks like, in a few words.
        recognises: whether a folder or file looks like this layout, told without reading all of it.
        parts: the named parts of a data set; reading a part is put off until it is asked for. "train", "val" and
            "all" have a meaning of their own in `nucleus.datasets.layouts.subsets`.
    """

    name: str
    summary: str
    recognises: Callable[[Path], bool]
    parts: Callable[[Path], Mapping[str, Part]]


def raise_error(error: DatasetError) -> None:
    """The `Report` that ends the reading at the first image that cannot be used."""
    raise error
