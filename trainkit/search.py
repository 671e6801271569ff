"""Search for the settings that score best: a grid of all combinations, or one setting after the other."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SEARCHES = ("grid", "coordinate")
# Most sweeps over all settings in a coordinate search.
_MAX_SWEEPS = 10


@dataclass(frozen=True)
class Trial:
    """Combination of settings and its score.

    Attributes:
        settings: Values of the searched settings by configuration name.
        score: Mean of the metric over the images.
        scores: Metric of each image.
    """

    settings: dict[str, Any]
    score: float
    scores: tuple[float, ...]


@dataclass(frozen=True)
class TuningReport:
    """All trials of a search.

    Attributes:
        trials: Trials, the best first; equal scores in the order of the search.
        start: Trial of the settings that the search began with.
    """

    trials: tuple[Trial, ...]
    start: Trial

    @property
    def best(self) -> dict[str, Any]:
        """Settings of the best trial, as `Settings.update` takes them."""
        return self.trials[0].settings

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Settings and `score` of each trial, one mapping each: rows of a table or a CSV file."""
        return [{**trial.settings, "score": trial.score} for trial in self.trials]

    def table(self, limit: int | None = None) -> str:
        """Formats the trials as text, a line each; the starting point is marked with a star.

        Args:
            limit: Number of trials to show, the best first; by default all.
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
    """Searches for the settings with the highest mean score.

    The initial settings are tried first, so that the report shows the gain of tuning, and an equally good setting does
    not replace them. The same arguments always give the same report.

    Args:
        score: Function of settings to the metric of each image; higher is better.
        start: Initial values by name.
        values: Values to try by name, of the same names.
        search: "grid" tries every combination. "coordinate" changes one setting at a time, in the order of `values`,
            keeps its best value, and repeats until no change helps: far fewer trials, and possibly a local optimum.

    Returns:
        Report of all trials.

    Raises:
        ValueError: The search is unknown, or a metric is not finite.

    Examples:
        >>> report = search_settings(lambda s: [-(s["X"] - 2) ** 2], {"X": 0}, {"X": [0, 1, 2, 3]})
        >>> report.best, report.best == report.start.settings
        ({'X': 2}, False)
        >>> print(report.table(limit=2))
        X    score
        2   0.0000
        1  -1.0000
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
