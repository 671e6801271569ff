"""The table of a comparison: every score in a CSV file, the main ones in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nucleus.evaluation import Evaluation
from nucleus.report.measures import MAIN
from nucleus.report.tables import compare, count_of
from trainkit.files import write_text

CSV_FILE, MARKDOWN_FILE = "table.csv", "table.md"
_SHOWN = ("mAP", "AP50", "F1", "IoU")


def write_table(folder: Path, evaluations: Sequence[Evaluation], notes: Sequence[str]) -> None:
    """Writes `table.csv` and `table.md`.

    Args:
        folder: Where to; created if missing.
        evaluations: Of the same images; at least one.
        notes: Lines below the tables of `table.md`.

    Raises:
        OSError: A file cannot be written.
    """
    rows = [
        evaluation.summary.rename_axis("group").reset_index().assign(predictions=evaluation.name)
        for evaluation in evaluations
    ]
    table = pd.concat(rows, ignore_index=True)
    table = table[["predictions", *(name for name in table if name != "predictions")]]
    write_text(folder / CSV_FILE, table.to_csv(index=False, float_format="%.6f", lineterminator="\n"))
    write_text(folder / MARKDOWN_FILE, as_markdown(evaluations, notes))


def as_markdown(evaluations: Sequence[Evaluation], notes: Sequence[str]) -> str:
    """Returns a table for each of mAP, AP50, F1 and IoU: a row for each model, a column for each modality.

    Args:
        evaluations: Of the same images; at least one.
        notes: Lines below.
    """
    lines = []
    for measure in (measure for measure in MAIN if measure.key in _SHOWN):
        groups = compare(evaluations, [measure])
        definition = measure.definition.replace("{threshold}", f"{evaluations[0].threshold:g}")
        heads = [f"{group.name} ({count_of(group.images, 'image')})" for group in groups]
        lines += [f"{measure.key}, {definition}:", ""]
        lines += ["| | " + " | ".join(heads) + " |", "|" + " --- |" * (len(heads) + 1)]
        for number, evaluation in enumerate(evaluations):
            cells = [group.rows[number][0] for group in groups]
            texts = [f"**{cell.text}**" if cell.best else cell.text for cell in cells]
            lines.append(f"| {evaluation.name} | " + " | ".join(texts) + " |")
        lines.append("")
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"
