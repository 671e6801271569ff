"""Table of measured and published scores: a CSV file to which every run is added, and its copy in Markdown."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import pandas as pd

from trainkit.files import write_text
from trainkit.locks import exclusive
from trainkit.reading import reading

CSV_FILE = "reproduced.csv"
MARKDOWN_FILE = "reproduced.md"


@dataclass(frozen=True)
class Row:
    """One published score and its value in one run.

    Attributes:
        date: Time of the run's end, UTC.
        experiment: Name of the experiment.
        metric: Name of the score; see `nucleus.experiments.publications.experiment.Figure`.
        part: Part of the images; see `Figure`.
        dataset: Path of the images that were trained on, or that given weights are scored on; empty if those are a test
            set's, which `measured_on` names.
        published: The published value; None where it is drawn as a curve only.
        measured: The value of this run; None where it cannot be measured.
        images: Number of scored images.
        measured_on: Description of the scored images.
        weights: "trained", or the given weights file.
        settings: Settings that the user changed, as `NAME=VALUE NAME=VALUE`.
        quick: True if the run was quick, so that its scores are of images that were learnt.
        backend: Backend of Keras.
        seconds: Duration of the command: remaining trainings and scoring.
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
_LOCK_FILE = f".{CSV_FILE}.lock"
# Seconds to wait for a run that writes the table.
_WAIT = 60.0
# Tables of earlier versions lack this column.
_LATER = "dataset"


def read_table(folder: str | os.PathLike) -> pd.DataFrame:
    """Reads the table of a folder; it is empty if the file does not exist.

    Args:
        folder: Folder of the table.

    Returns:
        One row for each score, the columns those of `Row`, all values as text; `dataset` is empty in tables of earlier
        versions.

    Raises:
        ValueError: The file is not such a table; the message names it.
    """
    path = Path(folder) / CSV_FILE
    if not path.is_file():
        return pd.DataFrame(columns=COLUMNS)
    with reading(path, "no table of reproduced figures"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    if list(table.columns) == [name for name in COLUMNS if name != _LATER]:
        table.insert(COLUMNS.index(_LATER), _LATER, "")
    if list(table.columns) != COLUMNS:
        raise ValueError(f"{path}: no table of reproduced figures (expected the columns {', '.join(COLUMNS)})")
    return table


def append_rows(folder: str | os.PathLike, rows: Iterable[Row]) -> None:
    """Adds the scores of a run to the table, atomically; runs that end together wait for each other.

    Args:
        folder: Folder of the table; created if missing.
        rows: Rows to add.

    Raises:
        ValueError: See `read_table`.
        LockedError: Another process has the table for a minute already.
        OSError: A file cannot be written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / _LOCK_FILE
    added = pd.DataFrame([{name: _text(value) for name, value in asdict(row).items()} for row in rows], columns=COLUMNS)
    with exclusive(lock, wait=_WAIT):
        try:
            table = pd.concat([read_table(folder), added], ignore_index=True)
            write_text(folder / CSV_FILE, table.to_csv(index=False, lineterminator="\n"))
            write_text(folder / MARKDOWN_FILE, as_markdown(table))
        finally:
            # Windows removes no file that is open.
            with suppress(OSError):
                lock.unlink()


def as_markdown(table: pd.DataFrame) -> str:
    """Returns a table as Markdown, followed by the citation of each experiment.

    Args:
        table: Table as returned by `read_table`.
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
