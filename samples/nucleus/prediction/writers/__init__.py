"""Writers of detection results: one module a file format, each a `Writer` with an entry in `WRITERS`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nucleus.prediction.formats import DEFAULT_FORMATS, LABELS, require_packages
from nucleus.prediction.writers.base import Record, Writer
from nucleus.prediction.writers.coco import Coco
from nucleus.prediction.writers.csv_tables import CsvTables
from nucleus.prediction.writers.labels import PngLabels, TiffLabels
from nucleus.prediction.writers.overlays import Overlays
from nucleus.prediction.writers.qupath import GeoJson
from nucleus.prediction.writers.rois import Rois
from nucleus.prediction.writers.stacks import LabelStacks
from nucleus.prediction.writers.submission import Submission
from nucleus.prediction.writers.workbook import Workbook

__all__ = ["WRITERS", "Record", "Writer", "default_formats", "open_writers"]

WRITERS: dict[str, type[Writer]] = {
    "png": PngLabels,
    "tif": TiffLabels,
    "stacks": LabelStacks,
    "overlays": Overlays,
    "csv": CsvTables,
    "xlsx": Workbook,
    "geojson": GeoJson,
    "roi": Rois,
    "coco": Coco,
    "rle": Submission,
}


def default_formats(labels: str = "png", chosen: Iterable[str] = DEFAULT_FORMATS) -> tuple[str, ...]:
    """Returns the formats that `nucleus detect` writes.

    Args:
        labels: Format of the label images, "png" or "tif".
        chosen: Names in `nucleus.prediction.formats.FORMATS`.
    """
    # Label images of planes and frames are stacked too.
    labelled = {LABELS: (labels, "stacks")}
    return tuple(writer for name in chosen for writer in labelled.get(name, (name,)))


def open_writers(folder: str | os.PathLike, formats: Iterable[str]) -> list[Writer]:
    """Makes the writers of a run.

    Args:
        folder: Folder of the results.
        formats: Names in `WRITERS`; those named twice count once.

    Returns:
        One writer a format, in the order of the names.

    Raises:
        ValueError: There is no such format, or a package that it needs is not installed.
    """
    names = dict.fromkeys(formats)
    unknown = [name for name in names if name not in WRITERS]
    if unknown:
        raise ValueError(f"Expected formats of {', '.join(WRITERS)}. Received: {unknown[0]!r}")
    require_packages(names)
    return [WRITERS[name](Path(folder)) for name in names]
