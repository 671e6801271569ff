"""CSV files of a data set: tables with named columns, and `classes.csv` with the modality of each image."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from nucleus.datasets.layouts.base import UNKNOWN_MODALITY, DatasetError
from trainkit.files import write_text
from trainkit.reading import reading

CLASSES_FILE = "classes.csv"
MODALITIES = {
    ("white", "black"): "fluorescence",
    ("purple", "purple"): "h&e-purple",
    ("purple", "white"): "h&e-white",
    ("black", "white"): "brightfield",
}
# Python's csv module accepts fields of up to 128 KiB by default; the code of a large mask can be longer.
_LONGEST_FIELD = 2**31 - 1


def read_header(path: Path) -> list[str]:
    """Returns the column names of a CSV file, without surrounding blanks.

    Args:
        path: Path of the file, in UTF-8.

    Raises:
        DatasetError: The file cannot be read as CSV.
    """
    return _read(path, 1)[0][1]


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Reads a CSV file whose first line names its columns.

    Args:
        path: Path of the file, in UTF-8.
        columns: Names of the required columns; there may be others.

    Returns:
        (line number, column -> text without surrounding blanks) of every row that is not blank.

    Raises:
        DatasetError: The file cannot be read as CSV, lacks one of the columns or has it twice, or a row has too few or
            too many fields.
    """
    (_, header), *rows = _read(path)
    if not set(columns) <= set(header):
        raise DatasetError(f"{path}: expected the columns {', '.join(columns)}; found {', '.join(header)}")
    twice = next((name for name in columns if header.count(name) > 1), None)
    if twice is not None:
        raise DatasetError(f"{path}: the column {twice} occurs twice")
    for line, row in rows:
        if len(row) != len(header):
            raise DatasetError(f"{path}, line {line}: expected {len(header)} fields; found {len(row)}")
    return [(line, dict(zip(header, row, strict=True))) for line, row in rows]


def read_values(path: Path, key: str, columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Reads what a CSV file says of each image.

    Args:
        path: Path of the file, in UTF-8.
        key: Name of the column with the images' names.
        columns: Names of the other columns.

    Returns:
        Name -> texts of the columns.

    Raises:
        DatasetError: See `read_table`; or a name is empty, or has two rows that differ.
    """
    values: dict[str, tuple[str, ...]] = {}
    for line, row in read_table(path, (key, *columns)):
        name, stated = row[key], tuple(row[column] for column in columns)
        if not name:
            raise DatasetError(f"{path}, line {line}: {key} is empty")
        if values.setdefault(name, stated) != stated:
            before, now = (", ".join(texts) for texts in (values[name], stated))
            raise DatasetError(f"{path}, line {line}: {name} has {now!r} here and {before!r} in an earlier line")
    return values


def read_modalities(path: str | os.PathLike) -> dict[str, str]:
    """Reads `classes.csv`.

    Args:
        path: A CSV file with the column ImageId and either modality, or foreground and background (colour names),
            which may be missing.

    Returns:
        ImageId -> modality: the file's, or the value of its colours in `MODALITIES`, or "<foreground>-on-<background>"
        for other colours, or `UNKNOWN_MODALITY` for an empty field; empty without the file.

    Raises:
        DatasetError: The file cannot be read as CSV, a column is missing, an ImageId is empty, or two rows of one image
            differ.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    columns = ("modality",) if "modality" in read_header(path) else ("foreground", "background")
    return {
        name: MODALITIES.get(stated, "-on-".join(stated)) if all(stated) else UNKNOWN_MODALITY
        for name, stated in read_values(path, "ImageId", columns).items()
    }


def write_modalities(path: str | os.PathLike, modalities: Mapping[str, str]) -> None:
    """Writes a file for `read_modalities`.

    Args:
        path: Path of the CSV file.
        modalities: ImageId -> modality.

    Raises:
        OSError: The file cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("ImageId", "modality"), *modalities.items()])
    write_text(path, text.getvalue())


def _read(path: Path, count: int | None = None) -> list[tuple[int, list[str]]]:
    """Returns (line number, fields) of the first `count` rows that are not blank, at least one; None for all."""
    rows = []
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with (
            reading(path, "is no CSV file in UTF-8", DatasetError),
            path.open(newline="", encoding="utf-8-sig") as file,
        ):
            reader = csv.reader(file, strict=True)
            for row in reader:
                if row:
                    rows.append((reader.line_num, [field.strip() for field in row]))
                if len(rows) == count:
                    break
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise DatasetError(f"{path}: the file is empty")
    return rows
