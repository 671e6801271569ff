"""Search for the post-processing settings that score best on a validation set.

The network's probabilities are computed once; only the post-processing is repeated.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from unet.postprocess import PostprocessSettings, config_name, postprocess

Metric = Callable[[np.ndarray, np.ndarray], float]
SEARCHES = ("grid", "coordinate")
# Sweeps over all settings before a coordinate search stops at the latest.
_MAX_SWEEPS = 10
_FIELDS = {config_name(field.name): field.name for field in fields(PostprocessSettings)}


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


def tune(
    probabilities: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    config: Any,
    grid: Mapping[str, Iterable[Any]],
    metric: Metric,
    search: str = "grid",
) -> TuningReport:
    """Tries post-processing settings on images whose nuclei are known.

    The configuration's own settings are tried first, so that the report shows what tuning gains and no setting is
    given up for one that is merely as good. The same arguments always give the same report.

    Args:
        probabilities: For each image float `[H, W, C]` in 0..1, what the network predicts.
        truth: For each image its integer label image `[H, W]`.
        config: The configuration whose settings are searched (see `PostprocessSettings.from_config`), or a
            `PostprocessSettings`.
        grid: Configuration name (such as "MASK_THRESHOLD", "MIN_AREA" or "POSTPROCESS") -> the values to try.
        metric: Scores one image: a function of its label image and the predicted one; higher is better.
        search: "grid" tries every combination. "coordinate" changes one setting at a time, in the grid's order, keeps
            its best value, and goes round until no change helps: far fewer trials, and it may stop short of the best.

    Returns:
        The `TuningReport`.

    Raises:
        ValueError: The lists are empty or differ in length, a setting is unknown, has no values or is out of range, or
            the metric returned no finite number.
    """
    if len(probabilities) != len(truth) or not len(truth):
        raise ValueError(
            "Tuning needs images, each with its probabilities and its label image. "
            f"Received: {len(probabilities)} probabilities, {len(truth)} label images"
        )
    if search not in SEARCHES:
        raise ValueError(f"The search must be one of {', '.join(SEARCHES)}. Received: {search!r}")
    base = _settings(config)
    values = checked_grid(grid, base)
    trials: dict[tuple[Any, ...], Trial] = {}

    def run(combination: tuple[Any, ...]) -> float:
        if combination not in trials:
            settings = dict(zip(values, combination, strict=True))
            scores = _score(probabilities, truth, _with(base, settings), metric)
            trials[combination] = Trial(settings, sum(scores) / len(scores), scores)
        return trials[combination].score

    start = tuple(getattr(base, _FIELDS[name]) for name in values)
    run(start)
    if search == "grid":
        for combination in itertools.product(*values.values()):
            run(combination)
    else:
        _climb(run, start, list(values.values()))
    ordered = sorted(trials.values(), key=lambda trial: -trial.score)
    return TuningReport(tuple(ordered), trials[start])


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


def _score(
    probabilities: Sequence[np.ndarray], truth: Sequence[np.ndarray], settings: PostprocessSettings, metric: Metric
) -> tuple[float, ...]:
    scores = []
    for index, (prediction, labels) in enumerate(zip(probabilities, truth, strict=True)):
        score = float(metric(labels, postprocess(prediction, settings)[0]))
        if not math.isfinite(score):
            raise ValueError(f"The metric must return a finite number. Received for image {index}: {score}")
        scores.append(score)
    return tuple(scores)


def checked_grid(grid: Mapping[str, Iterable[Any]], config: Any) -> dict[str, tuple[Any, ...]]:
    """Checks what is to be tried, which `tune` does itself, before anything expensive is done for it.

    Args:
        grid: See `tune`.
        config: See `tune`.

    Returns:
        The values of each setting.

    Raises:
        ValueError: A setting is unknown, has no values or is out of range.
    """
    base = _settings(config)
    unknown = [name for name in grid if name not in _FIELDS]
    if unknown or not grid:
        raise ValueError(f"Settings to tune are {', '.join(_FIELDS)}. Received: {', '.join(unknown) or 'none'}")
    values = {name: tuple(choices) for name, choices in grid.items()}
    for name, choices in values.items():
        if not choices:
            raise ValueError(f"{name} has no values to try.")
        for choice in choices:
            # Fails now rather than after hours of search.
            _with(base, {name: choice})
    return values


def _settings(config: Any) -> PostprocessSettings:
    return config if isinstance(config, PostprocessSettings) else PostprocessSettings.from_config(config)


def _with(base: PostprocessSettings, settings: Mapping[str, Any]) -> PostprocessSettings:
    return replace(base, **{_FIELDS[name]: value for name, value in settings.items()})
