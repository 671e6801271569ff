"""CSV files of a data set: any table of named columns, and `classes.csv`, which tells each image's modality."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from nucleus.datasets.layouts.base import UNKNOWN_MODALITY, DatasetError
from trainkit.files import write_text

CLASSES_FILE = "classes.csv"
MODALITIES = {
    ("white", "black"): "fluorescence",
    ("purple", "purple"): "h&e-purple",
    ("purple", "white"): "h&e-white",
    ("black", "white"): "brightfield",
}
# Python's csv module takes a field of more than 128 KiB, as the code of a large mask can be, only if told.
_LONGEST_FIELD = 2**31 - 1


def read_header(path: Path) -> list[str]:
    """The column names of a CSV file, without surrounding blanks.

    Raises:
        DatasetError: the file cannot be read as CSV.
    """
    return _read(path, 1)[0][1]


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Reads a CSV file whose first line names its columns.

    Args:
        path: the file, in UTF-8.
        columns: names of columns that it must have; it may have others.

    Returns:
        (line number, column -> text without surrounding blanks) of every row; blank lines are left out.

    Raises:
        DatasetError: the file cannot be read as CSV, lacks a column, or a row has too few or too many fields.
    """
    (_, header), *rows = _read(path)
    if not set(columns) <= set(header):
        raise DatasetError(f"{path}: expected the columns {', '.join(columns)}; found {', '.join(header)}")
    for line, row in rows:
        if len(row) != len(header):
            raise DatasetError(f"{path}, line {line}: expected {len(header)} fields; found {len(row)}")
    return [(line, dict(zip(header, row, strict=True))) for line, row in rows]


def read_modalities(path: str | os.PathLike) -> dict[str, str]:
    """Reads `classes.csv`.

    Args:
        path: a CSV file with the column ImageId and either modality, or foreground and background (colour names);
            it may be missing.

    Returns:
        ImageId -> modality: that of the file, or of the colours one of the names in `MODALITIES`, or
        "<foreground>-on-<background>" for other colours; `UNKNOWN_MODALITY` where a field is empty.

    Raises:
        DatasetError: the file cannot be read as CSV, or a column is missing.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    if "modality" in read_header(path):
        return {
            row["ImageId"]: row["modality"] or UNKNOWN_MODALITY for _, row in read_table(path, ("ImageId", "modality"))
        }
    rows = read_table(path, ("ImageId", "foreground", "background"))
    colours = {row["ImageId"]: (row["foreground"], row["background"]) for _, row in rows}
    return {
        name: MODALITIES.get(pair, f"{pair[0]}-on-{pair[1]}") if all(pair) else UNKNOWN_MODALITY
        for name, pair in colours.items()
    }


def write_modalities(path: str | os.PathLike, modalities: Mapping[str, str]) -> None:
    """Writes what `read_modalities` reads.

    Args:
        path: the file.
        modalities: ImageId -> modality.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("ImageId", "modality"), *modalities.items()])
    write_text(path, text.getvalue())


def _read(path: Path, count: int | None = None) -> list[tuple[int, list[str]]]:
    """The first lines that are not blank, at least one."""
    rows = []
    limit = csv.field_size_limit(_LONGEST_FIELD)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            for row in reader:
                if row:
                    rows.append((reader.line_num, [field.strip() for field in row]))
                if len(rows) == count:
                    break
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: is no CSV file in UTF-8 ({error})") from error
    finally:
        csv.field_size_limit(limit)
    if not rows:
        raise DatasetError(f"{path}: the file is empty")
    return rows
