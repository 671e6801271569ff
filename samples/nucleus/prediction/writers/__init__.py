"""Writers of detection results: one module a file format, each a `Writer` with an entry in `WRITERS`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

from nucleus.prediction.writers.base import Record, Writer
from nucleus.prediction.writers.coco import Coco
from nucleus.prediction.writers.csv_tables import CsvTables
from nucleus.prediction.writers.labels import LabelStacks, PngLabels, TiffLabels, ZarrLabels
from nucleus.prediction.writers.overlays import Overlays
from nucleus.prediction.writers.qupath import GeoJson
from nucleus.prediction.writers.rois import Rois
from nucleus.prediction.writers.submission import Submission
from nucleus.prediction.writers.workbook import Workbook

__all__ = [
    "CHOICES",
    "DEFAULT_CHOICES",
    "LABEL_FORMATS",
    "TABLE_FORMATS",
    "WRITERS",
    "Record",
    "Writer",
    "default_formats",
    "open_writers",
    "require_packages",
]

WRITERS: dict[str, type[Writer]] = {
    "png": PngLabels,
    "tif": TiffLabels,
    "zarr": ZarrLabels,
    "stacks": LabelStacks,
    "overlays": Overlays,
    "csv": CsvTables,
    "xlsx": Workbook,
    "geojson": GeoJson,
    "roi": Rois,
    "coco": Coco,
    "rle": Submission,
}
TABLE_FORMATS = ("csv",)

# Label images are one choice of the command line, with a file format; those of planes and frames are stacked too.
_LABELS = "labels"
_LABEL_WRITERS = {name: (name, "stacks") for name in ("png", "tif", "zarr")}
LABEL_FORMATS = tuple(_LABEL_WRITERS)
_OF_LABELS = {name for names in _LABEL_WRITERS.values() for name in names}
# Choices of the command line and their files, for the help.
CHOICES: dict[str, str] = {
    _LABELS: "label images, see --label-format",
    **{name: writer.summary for name, writer in WRITERS.items() if name not in _OF_LABELS},
}
DEFAULT_CHOICES = (_LABELS, "overlays", "csv", "rle")


def default_formats(labels: str = "png", chosen: Iterable[str] = DEFAULT_CHOICES) -> tuple[str, ...]:
    """Returns the formats that `nucleus detect` writes, names in `WRITERS`.

    Args:
        labels: Format of the label images, one of `LABEL_FORMATS`.
        chosen: Names in `CHOICES`.
    """
    return tuple(writer for name in chosen for writer in (_LABEL_WRITERS[labels] if name == _LABELS else (name,)))


def require_packages(formats: Iterable[str]) -> None:
    """Checks, before long work, that the packages of some formats are installed.

    Args:
        formats: Names in `WRITERS` or `CHOICES`.

    Raises:
        ValueError: A package is missing; the message names the extra.
    """
    for name in formats:
        package = WRITERS[name].package if name in WRITERS else None
        if package is not None and importlib.util.find_spec(package) is None:
            raise ValueError(
                f"The format {name} needs {package}, which is not installed: pip install "
                f'"keras-nucleus[{WRITERS[name].extra}]", or {package}.'
            )


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
