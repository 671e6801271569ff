"""Writers of detection results: one module a file format, each a `Writer` with an entry in `WRITERS`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nucleus.prediction.writers.base import Record, Writer
from nucleus.prediction.writers.images import ImagesTable
from nucleus.prediction.writers.labels import PngLabels, TiffLabels
from nucleus.prediction.writers.nuclei import NucleiTable
from nucleus.prediction.writers.overlays import Overlays
from nucleus.prediction.writers.stacks import LabelStacks
from nucleus.prediction.writers.submission import Submission

__all__ = ["WRITERS", "Record", "Writer", "default_formats", "open_writers"]

WRITERS: dict[str, type[Writer]] = {
    "png": PngLabels,
    "tif": TiffLabels,
    "stacks": LabelStacks,
    "overlays": Overlays,
    "nuclei": NucleiTable,
    "submission": Submission,
    "images": ImagesTable,
}


def default_formats(labels: str = "png") -> tuple[str, ...]:
    """Returns the formats that `nucleus detect` writes.

    Args:
        labels: Format of the label images, "png" or "tif".
    """
    return labels, "stacks", "overlays", "nuclei", "submission", "images"


def open_writers(folder: str | os.PathLike, formats: Iterable[str]) -> list[Writer]:
    """Makes the writers of a run.

    Args:
        folder: Folder of the results.
        formats: Names in `WRITERS`; those named twice count once.

    Returns:
        One writer a format, in the order of the names.

    Raises:
        ValueError: There is no such format.
    """
    names = dict.fromkeys(formats)
    unknown = [name for name in names if name not in WRITERS]
    if unknown:
        raise ValueError(f"Expected formats of {', '.join(WRITERS)}. Received: {unknown[0]!r}")
    return [WRITERS[name](Path(folder)) for name in names]
