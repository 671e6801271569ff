"""A CSV file of run-length codes beside image files, such as stage1_solution.csv of the 2018 Data Science Bowl.

<root>/stage1_solution.csv                           ImageId,EncodedPixels[,Height,Width,Usage], one row per nucleus
<root>/stage1_test/<ImageId>/images/<ImageId>.png    or <root>/<any folder>/<ImageId>.png or <root>/<ImageId>.png
<root>/classes.csv                                   optional: ImageId,foreground,background

A row with an empty code lists an image without nuclei. An image without a row, in a folder with listed images, has no
labels. A data set is the CSV file, or a folder with one. Each value of Usage is a part; "all" is all of them except
"Ignored", the rows that the competition did not score.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from nucleus.datasets.layouts.base import UNKNOWN_MODALITY, DatasetError, Layout, Part, Report, Sample
from nucleus.datasets.layouts.painting import ListedInstances, run_pixels
from nucleus.datasets.layouts.tables import CLASSES_FILE, read_header, read_modalities, read_table
from nucleus.images.labels import rle_runs
from nucleus.images.reading import list_folders, list_images

COLUMNS = ("ImageId", "EncodedPixels")
IGNORED = "Ignored"
# Height or width of an image in pixels.
_SIDE = re.compile("[1-9][0-9]{0,8}")

_Rows = list[tuple[int, dict[str, str]]]
# (folder, image file) of each image file, by image id.
_Images = dict[str, list[tuple[Path, Path]]]


def _recognises(root: Path) -> bool:
    return root.suffix.lower() == ".csv" if root.is_file() else bool(_tables(root))


def _tables(root: Path) -> list[Path]:
    return [path for path in sorted(root.glob("*.csv")) if _has_codes(path)]


def _has_codes(path: Path) -> bool:
    try:
        return set(COLUMNS) <= set(read_header(path))
    except DatasetError:  # Some other file with this suffix.
        return False


def _parts(root: Path) -> Mapping[str, Part]:
    table = _only_table(root)
    rows = read_table(table, COLUMNS)
    usages = {row["Usage"] for _, row in rows if "Usage" in row}
    parts = {usage: partial(_read, table, _with_usage(rows, {usage}), None) for usage in sorted(usages)}
    scored = _with_usage(rows, usages - {IGNORED}) if usages else rows
    return {**parts, "all": partial(_read, table, scored, {row["ImageId"] for _, row in rows})}


def _only_table(root: Path) -> Path:
    if root.is_file():
        return root
    tables = _tables(root)
    if len(tables) != 1:
        names = ", ".join(path.name for path in tables) or "none"
        raise DatasetError(f"{root}: expected one CSV file with {' and '.join(COLUMNS)}, or its path; found {names}")
    return tables[0]


def _with_usage(rows: _Rows, usages: set[str]) -> _Rows:
    return [row for row in rows if row[1]["Usage"] in usages]


def _read(table: Path, rows: _Rows, listed: set[str] | None, report: Report) -> list[Sample]:
    """Lists the samples of some rows and, given the ids of all rows, the images without a row in the same folders."""
    images = _find_images(table.parent)
    modalities = read_modalities(table.parent / CLASSES_FILE)
    of_image: dict[str, _Rows] = defaultdict(list)
    for row in rows:
        of_image[row[1]["ImageId"]].append(row)
    found: list[tuple[str, Path, ListedInstances | None]] = []
    folders = set()
    for name, image_rows in of_image.items():
        try:
            folder, image = _only_image(table, image_rows[0][0], name, images.get(name, []))
            found.append((name, image, _run_lengths(table, image_rows)))
            folders.add(folder)
        except DatasetError as error:
            report(error)
    if listed is not None:
        unlisted = sorted(images.keys() - listed)
        found += [(name, image, None) for name in unlisted for folder, image in images[name] if folder in folders]
    return [
        Sample(name, image, truth, table.stem, modalities.get(name, UNKNOWN_MODALITY)) for name, image, truth in found
    ]


def _run_lengths(table: Path, rows: _Rows) -> ListedInstances:
    shapes = {(row["Height"], row["Width"]) for _, row in rows if "Height" in row and "Width" in row}
    line = rows[0][0]
    if len(shapes) > 1:
        raise DatasetError(f"{table}, line {line}: the rows of one image differ in Height and Width")
    shape = None
    for height, width in shapes:
        if not (_SIDE.fullmatch(height) and _SIDE.fullmatch(width)):
            raise DatasetError(
                f"{table}, line {line}: Height and Width must be whole numbers; found {height[:20]}, {width[:20]}"
            )
        shape = (int(height), int(width))
    codes = tuple((f"line {line}", row["EncodedPixels"]) for line, row in rows if row["EncodedPixels"])
    return ListedInstances(table, codes, shape, _code_pixels)


def _code_pixels(code: str, shape: tuple[int, int]) -> np.ndarray:
    return run_pixels(*rle_runs(code, shape), shape)


def _find_images(root: Path) -> _Images:
    """Finds the images in a folder, in the folders in it, and in <ImageId>/images in any of these."""
    found: _Images = defaultdict(list)
    for folder in [root, *list_folders(root)]:
        for path in list_images(folder):
            found[path.stem].append((folder, path))
        for sample in list_folders(folder):
            images = sample / "images"
            if images.is_dir():
                found[sample.name] += [(folder, path) for path in list_images(images)]
    return found


def _only_image(table: Path, line: int, name: str, found: list[tuple[Path, Path]]) -> tuple[Path, Path]:
    if len(found) != 1:
        names = ", ".join(str(path) for _, path in found) or "none"
        raise DatasetError(f"{table}, line {line}: expected one image file of the id {name!r}; found {names}")
    return found[0]


LAYOUT = Layout("rle-csv", "a CSV file of ImageId,EncodedPixels beside the images", _recognises, _parts)
