"""Table of a comparison: every score as CSV, the main ones as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nucleus.evaluation.evaluation import Evaluation
from nucleus.evaluation.report.measures import MAIN
from nucleus.evaluation.report.tables import count_of, tabulate
from trainkit.files import write_text

CSV_FILE, MARKDOWN_FILE = "table.csv", "table.md"
# Includes the scores of table 5.1 of Vuola, Nuclei segmentation using computer vision, 2019.
_SHOWN = ("mAP", "AP50", "F1", "precision", "recall", "Dice", "IoU", "oseg", "useg")


def write_table(folder: Path, evaluations: Sequence[Evaluation], notes: Sequence[str]) -> None:
    """Writes `table.csv` and `table.md`.

    Args:
        folder: Output folder; created if missing.
        evaluations: One or more evaluations of the same images.
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
    """Returns a table for all images and one for each modality, with a row for each model and a column for each score.

    Args:
        evaluations: One or more evaluations of the same images.
        notes: Lines below the tables, after the definitions of the scores.
    """
    by_key = {measure.key: measure for measure in MAIN}
    measures = [by_key[key] for key in _SHOWN]
    lines = []
    for group in tabulate(evaluations, measures):
        lines += [f"{group.name}, {count_of(group.images, 'image')}, {count_of(group.nuclei, 'nucleus')}:", ""]
        lines.append(_row(["", *(f"{measure.key} {measure.arrow}" for measure in measures)]))
        lines.append("|" + " --- |" * (len(measures) + 1))
        for evaluation, cells in zip(evaluations, group.rows, strict=True):
            lines.append(_row([evaluation.name, *(f"**{cell.text}**" if cell.best else cell.text for cell in cells)]))
        lines.append("")
    definitions = [f"{measure.key}, {measure.defined(evaluations[0].threshold)}." for measure in measures]
    return "\n".join([*lines, *(f"- {line}" for line in (*definitions, *notes))]) + "\n"


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"
