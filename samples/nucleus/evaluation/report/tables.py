"""Tables of scores: models side by side, overall and by modality."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nucleus.evaluation.evaluation import Evaluation
from nucleus.evaluation.report.measures import MAIN, Measure

# An en dash.
MISSING = "\u2013"
_CONSOLE = ("predicted", "mAP", "AP50", "AP75", "precision", "recall", "F1", "Dice", "IoU", "PQ", "oseg", "useg")


@dataclass(frozen=True)
class Cell:
    """Formatted value, and whether it is the best of the compared models."""

    text: str
    best: bool


@dataclass(frozen=True)
class Group:
    """The scores of all models on one group of images.

    Attributes:
        name: "all", or the modality.
        images: Number of images.
        nuclei: Number of true nuclei.
        rows: Cells of each model, one for each measure.
    """

    name: str
    images: int
    nuclei: int
    rows: list[list[Cell]]


def tabulate(evaluations: Sequence[Evaluation], measures: Sequence[Measure]) -> list[Group]:
    """Tabulates the scores of models side by side.

    Args:
        evaluations: Evaluations of the same images, at least one.
        measures: Scores to tabulate. A missing score is a dash.

    Returns:
        The groups, "all" first. With several models, the best value of each measure is marked, and so are values that
        are formatted alike.
    """
    groups = []
    for name, first in evaluations[0].summary.iterrows():
        columns = [
            _column([_value(evaluation, name, measure) for evaluation in evaluations], measure) for measure in measures
        ]
        rows = [list(row) for row in zip(*columns, strict=True)]
        groups.append(Group(str(name), int(first["images"]), int(first["true"]), rows))
    return groups


def available(evaluations: Sequence[Evaluation], measures: Sequence[Measure]) -> list[Measure]:
    """Returns the measures that at least one of the models has.

    Args:
        evaluations: Scores of the models.
        measures: Measures to choose among.
    """
    return [measure for measure in measures if any(measure.key in evaluation.summary for evaluation in evaluations)]


def console_table(evaluations: Sequence[Evaluation]) -> str:
    """Formats the main scores as text, at most 100 columns wide for names of up to 12 letters.

    Args:
        evaluations: Evaluations of the same images, at least one.

    Returns:
        One line for each group of images, or one block of lines with several models.
    """
    measures = {measure.key: measure for measure in MAIN}
    shown = [measures[key] for key in _CONSOLE]
    groups = tabulate(evaluations, shown)
    head = ["", *(["images", "true"] if len(evaluations) == 1 else []), *_CONSOLE]
    lines: list[list[str] | str] = [head]
    for group in groups:
        if len(evaluations) == 1:
            texts = [cell.text for cell in group.rows[0]]
            lines.append([group.name, str(group.images), str(group.nuclei), *texts])
        else:
            lines.append(f"{group.name} ({count_of(group.images, 'image')}, {count_of(group.nuclei, 'nucleus')})")
            rows = zip(evaluations, group.rows, strict=True)
            lines += [[f"  {evaluation.name}", *(cell.text for cell in row)] for evaluation, row in rows]
    cells = [line for line in lines if isinstance(line, list)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    return "\n".join(line if isinstance(line, str) else _aligned(line, widths) for line in lines)


def count_of(number: int, thing: str) -> str:
    """Formats a number with its noun, such as "1 image" and "1,502 nuclei"."""
    plural = {"nucleus": "nuclei"}.get(thing, f"{thing}s")
    return f"{number:,} {thing if number == 1 else plural}"


def _value(evaluation: Evaluation, group: str, measure: Measure) -> float:
    return evaluation.summary[measure.key][group] if measure.key in evaluation.summary else math.nan


def _column(values: Sequence[float], measure: Measure) -> list[Cell]:
    texts = [MISSING if math.isnan(value) else measure.text(value) for value in values]
    known = [float(text) for text in texts if text != MISSING]
    if len(values) < 2 or not measure.better or not known:
        return [Cell(text, False) for text in texts]
    best = (max if measure.better == "more" else min)(known)
    return [Cell(text, text != MISSING and float(text) == best) for text in texts]


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = (
        cell.ljust(width) if index == 0 else cell.rjust(width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    )
    return " ".join([first, *others]).rstrip()
