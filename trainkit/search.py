"""Search for the settings that score best, by trying them: every combination, or one setting after the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SEARCHES = ("grid", "coordinate")
# Sweeps over all settings before a coordinate search stops at the latest.
_MAX_SWEEPS = 10


@dataclass(frozen=True)
class Trial:
    """One combination of settings and how it did.

    Attributes:
        settings: Name -> value of the settings that were searched, by their configuration names.
        score: Mean of the metric over the images.
        scores: The metric of each image.
    """

    settings: dict[str, Any]
    score: float
    scores: tuple[float, ...]


@dataclass(frozen=True)
class TuningReport:
    """Everything that was tried, the best first; equal scores in the order they were tried.

    Attributes:
        trials: The trials.
        start: The trial of the settings that the search began with.
    """

    trials: tuple[Trial, ...]
    start: Trial

    @property
    def best(self) -> dict[str, Any]:
        """The settings of the best trial, as a configuration takes them."""
        return self.trials[0].settings

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One mapping for each trial, its settings and its `score`: what a table or a CSV file is made of."""
        return [{**trial.settings, "score": trial.score} for trial in self.trials]

    def table(self, limit: int | None = None) -> str:
        """Returns the trials as text, a line each; the starting point is marked with a star.

        Args:
            limit: How many of the best to show; by default all.
        """
        cells = [[*self.best, "score", ""]]
        for trial in self.trials[:limit]:
            mark = "*" if trial is self.start else ""
            cells.append([*(str(value) for value in trial.settings.values()), f"{trial.score:.4f}", mark])
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
        return "\n".join(line.rstrip() for line in lines)

    def __str__(self) -> str:
        return self.table()


def search_settings(
    score: Callable[[dict[str, Any]], Sequence[float]],
    start: Mapping[str, Any],
    values: Mapping[str, Sequence[Any]],
    search: str = "grid",
) -> TuningReport:
    """Tries settings.

    The settings at hand are tried first, so that the report shows what tuning gains and no setting is given up for one
    that is merely as good. The same arguments always give the same report.

    Args:
        score: Returns the metric of each image with some settings; higher is better.
        start: Name -> value, the settings at hand.
        values: Name -> the values to try, of the same names.
        search: "grid" tries every combination. "coordinate" changes one setting at a time, in the order of `values`,
            keeps its best value, and goes round until no change helps: far fewer trials, and it may stop short of the
            best.

    Returns:
        The `TuningReport`.

    Raises:
        ValueError: An unknown search, or a metric that is no finite number.
    """
    if search not in SEARCHES:
        raise ValueError(f"The search must be one of {', '.join(SEARCHES)}. Received: {search!r}")
    trials: dict[tuple[Any, ...], Trial] = {}

    def run(combination: tuple[Any, ...]) -> float:
        if combination not in trials:
            settings = dict(zip(values, combination, strict=True))
            scores = _finite(score(settings))
            trials[combination] = Trial(settings, sum(scores) / len(scores), scores)
        return trials[combination].score

    first = tuple(start[name] for name in values)
    run(first)
    if search == "grid":
        for combination in itertools.product(*values.values()):
            run(combination)
    else:
        _climb(run, first, list(values.values()))
    ordered = sorted(trials.values(), key=lambda trial: -trial.score)
    return TuningReport(tuple(ordered), trials[first])


def _climb(run: Callable[[tuple[Any, ...]], float], best: tuple[Any, ...], values: Sequence[Sequence[Any]]) -> None:
    """Improves one setting after the other until none can be improved."""
    for _ in range(_MAX_SWEEPS):
        before = best
        for index, choices in enumerate(values):
            for choice in choices:
                changed = (*best[:index], choice, *best[index + 1 :])
                if run(changed) > run(best):
                    best = changed
        if best == before:
            return


def _finite(scores: Sequence[float]) -> tuple[float, ...]:
    for index, score in enumerate(scores):
        if not math.isfinite(score):
            raise ValueError(f"The metric must return a finite number. Received for image {index}: {score}")
    return tuple(scores)
