"""The table of measured beside published figures: a CSV file that every run adds to, and the same in Markdown."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from trainkit.files import write_text

CSV_FILE = "reproduced.csv"
MARKDOWN_FILE = "reproduced.md"


@dataclass(frozen=True)
class Row:
    """One figure of one run.

    Attributes:
        date: When the run ended, UTC.
        experiment: Its name.
        metric: See `nucleus.experiments.publications.experiment.Figure`.
        part: Likewise.
        dataset: Where the images are that were trained on, or that given weights are scored on; empty if those are a
            test set's, which `measured_on` names.
        published: The published value; None where it is drawn only.
        measured: That of this run; None where it cannot be measured.
        images: Images that it was measured on.
        measured_on: Which images these are.
        weights: "trained", or the file that was given.
        settings: Settings that the user changed, as `NAME=VALUE NAME=VALUE`.
        quick: Whether it was a quick run, whose figures say nothing of the method.
        backend: Of Keras.
        seconds: From the call of the command, to train what was left to train and to measure.
        citation: The publication, and the place in it.
    """

    date: str
    experiment: str
    metric: str
    part: str
    dataset: str
    published: float | None
    measured: float | None
    images: int
    measured_on: str
    weights: str
    settings: str
    quick: bool
    backend: str
    seconds: float
    citation: str


COLUMNS = [field.name for field in fields(Row)]
# Tables that were begun before there was this column lack it.
_LATER = "dataset"


def read_table(folder: str | os.PathLike) -> pd.DataFrame:
    """Reads the table of a folder; it is empty where there is none yet.

    Args:
        folder: Of the table.

    Returns:
        One row a figure, columns as `Row`, values as they stand in the file; `dataset` is empty in a table that was
        begun before it was noted.

    Raises:
        ValueError: The file is another one; the message names it.
    """
    path = Path(folder) / CSV_FILE
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: no table of reproduced figures ({error})") from error
    if list(table.columns) == [name for name in COLUMNS if name != _LATER]:
        table.insert(COLUMNS.index(_LATER), _LATER, "")
    if list(table.columns) != COLUMNS:
        raise ValueError(f"{path}: no table of reproduced figures (expected the columns {', '.join(COLUMNS)})")
    return table


def append_rows(folder: str | os.PathLike, rows: Iterable[Row]) -> None:
    """Adds the figures of a run to the table, atomically.

    Args:
        folder: Of the table; made if it is missing.
        rows: What is added.

    Raises:
        ValueError: See `read_table`.
        OSError: A file cannot be written.
    """
    added = pd.DataFrame([{name: _text(value) for name, value in asdict(row).items()} for row in rows], columns=COLUMNS)
    table = pd.concat([read_table(folder), added], ignore_index=True)
    write_text(Path(folder) / CSV_FILE, table.to_csv(index=False, lineterminator="\n"))
    write_text(Path(folder) / MARKDOWN_FILE, as_markdown(table))


def as_markdown(table: pd.DataFrame) -> str:
    """Returns a table as Markdown: a line a row, and below it where each experiment was published.

    Args:
        table: From `read_table`.
    """
    columns = [name for name in COLUMNS if name != "citation"]
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for values in table[columns].itertuples(index=False):
        lines.append("| " + " | ".join(str(value).replace("|", "\\|") for value in values) + " |")
    sources = table[["experiment", "citation"]].drop_duplicates()
    lines += ["", *(f"- {row.experiment}: {row.citation}" for row in sources.itertuples(index=False))]
    return "\n".join(lines) + "\n"


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
