"""Rank-sum table of the GlaS challenge, with models among the published entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from nucleus.evaluation.evaluation import Evaluation
from nucleus.evaluation.report.tables import Cell
from nucleus.evaluation.scores import rank_sum_table

CSV_FILE = "rank_sums.csv"


def rank_sums(evaluations: Sequence[Evaluation]) -> pd.DataFrame | None:
    """Ranks models together with the published entries; see `nucleus.evaluation.scores.rank_sum_table`.

    Args:
        evaluations: Evaluations of the same images, at least one.

    Returns:
        The table; None if the images are not those of the challenge's two test parts.

    Raises:
        ValueError: A model has the name of a published entry.
    """
    if evaluations[0].glas_parts is None:
        return None
    return rank_sum_table({evaluation.name: evaluation.glas_parts for evaluation in evaluations})


def rank_sum_text(table: pd.DataFrame) -> str:
    """Formats the table as text.

    Args:
        table: Table of `rank_sums`.
    """
    return table.to_string(float_format=lambda value: f"{value:.3f}")


def rank_sum_csv(table: pd.DataFrame) -> str:
    """Formats the table as CSV with one header line of names such as "F1 A" and "F1 rank A".

    Args:
        table: Table of `rank_sums`.
    """
    flat = table.set_axis([" ".join(filter(None, column)) for column in table.columns], axis=1)
    return flat.to_csv(index_label="method", float_format="%.6f", lineterminator="\n")


def rank_sum_rows(table: pd.DataFrame, evaluations: Sequence[Evaluation]) -> list[dict[str, Any]]:
    """Returns the rows of the table for the page.

    Args:
        table: Table of `rank_sums`.
        evaluations: Evaluations of the models in the table, in the order of their colours.

    Returns:
        For each method: `name`; `model`, its index in `evaluations`, None for a published entry; and `cells`, with the
        best of each score marked.
    """
    positions = {evaluation.name: index for index, evaluation in enumerate(evaluations)}
    return [
        {"name": name, "model": positions.get(name), "cells": [_cell(row, column) for column in table.columns]}
        for name, row in table.iterrows()
    ]


def _cell(row: pd.Series, column: tuple[str, str]) -> Cell:
    score, part = column
    if part in ("A", "B"):
        return Cell(
            f"{row[column]:.1f}" if score == "Hausdorff" else f"{row[column]:.3f}", row[score, f"rank {part}"] == 1
        )
    return Cell(f"{row[column]:.0f}", False)
