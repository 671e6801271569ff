"""Formats of results as the command line names them; their writers are in `nucleus.prediction.writers`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

LABELS = "labels"
# Name -> files, for the help.
FORMATS = {
    LABELS: "label images, see --label-format",
    "overlays": "pictures with outlines",
    "csv": "nuclei.csv and images.csv",
    "xlsx": "both tables in one workbook",
    "geojson": "detections for QuPath, with measurements and scores",
    "roi": "ROIs for ImageJ and Fiji",
    "coco": "COCO JSON, instances and results",
    "rle": "submission.csv, the run lengths of the 2018 Data Science Bowl",
}
DEFAULT_FORMATS = (LABELS, "overlays", "csv", "rle")
EXTRA = "exchange"
_PACKAGES = {"xlsx": "openpyxl", "roi": "roifile"}


def require_packages(formats: Iterable[str]) -> None:
    """Checks, before long work, that the packages of some formats are installed.

    Args:
        formats: Names of formats.

    Raises:
        ValueError: A package is missing; the message names the extra.
    """
    for name in formats:
        package = _PACKAGES.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            raise ValueError(
                f'The format {name} needs {package}, which is not installed: pip install "keras-nucleus[{EXTRA}]", '
                f"or {package}."
            )
