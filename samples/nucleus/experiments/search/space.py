"""Search space: the dimensions, the trials, and the narrowing of the space to its best trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from nucleus.training.tuning import parse_values, split_values

if TYPE_CHECKING:
    import optuna

    from nucleus.models.registry import ModelConfig

# Share of the trials, the best ones, that span a narrowed space, and how many at least.
_PROMISING, _LEAST = 0.25, 3
_LOG = ":log"


@dataclass(frozen=True)
class Dimension:
    """The values to try for one setting: a list of choices, or a range of numbers.

    Attributes:
        name: Name of the setting.
        values: Choices as text; empty for a range.
        low: Lower end of the range, inclusive.
        high: Upper end of the range, inclusive.
        log: True if the range is sampled on a logarithmic scale.
        whole: True if the range consists of whole numbers.
    """

    name: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def narrowed(self, tried: Sequence[Any]) -> Dimension:
        """Returns the dimension restricted to the best values, or to the range between them.

        Args:
            tried: The best values; at least one.
        """
        if self.values:
            return Dimension(self.name, tuple(value for value in self.values if value in tried))
        return Dimension(self.name, (), min(tried), max(tried), self.log, self.whole)

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """Returns the distribution as an Optuna object."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.values:
            return CategoricalDistribution(self.values)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class SearchTrial:
    """One combination of settings and its score.

    Attributes:
        stage: One of `nucleus.experiments.search.studies.STAGES`.
        number: Number of the trial in its stage, from 1.
        settings: Name of a setting -> value.
        value: Score, mAP in 0..1; None if the trial failed.
        seconds: Duration of the trial.
        error: Cause of the failure; empty if the trial succeeded.
    """

    stage: str
    number: int
    settings: Mapping[str, Any]
    value: float | None
    seconds: float
    error: str = ""


def parse_dimension(config: ModelConfig, name: str, text: str) -> Dimension:
    """Reads a dimension from its text form.

    Args:
        config: Configuration that determines the setting's type and permitted values.
        name: Name of the setting.
        text: Values separated by commas, such as `SGD,Adam`, or a range `LOW..HIGH`, followed by `:log` for a
            logarithmic scale, such as `1e-5..0.1:log`.

    Raises:
        ValueError: The setting is unknown, or a value is not permitted.
    """
    low, dots, high = text.removesuffix(_LOG).partition("..")
    if not dots:
        parse_values(config, name, text)
        return Dimension(name, tuple(split_values(text)))
    ends = [*parse_values(config, name, low), *parse_values(config, name, high)]
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends) or len(ends) != 2:
        raise ValueError(f"{name} needs numbers on both sides of the two dots. Received: {text!r}")
    log = text.endswith(_LOG)
    if not ends[0] < ends[1] or (log and ends[0] <= 0):
        raise ValueError(f"{name} needs a lower and a higher number{', above 0' if log else ''}. Received: {text!r}")
    return Dimension(name, (), *ends, log=log, whole=all(isinstance(end, int) for end in ends))


def ranked(trials: Sequence[SearchTrial]) -> list[SearchTrial]:
    """Returns the trials in the order of their scores, the best first and failed ones last."""
    return sorted(trials, key=lambda trial: (trial.value is None, -(trial.value or 0.0)))


def as_table(trials: Sequence[SearchTrial]) -> pd.DataFrame:
    """Returns a table of trials with the columns stage, number, mAP, seconds, one for each setting, and error.

    Args:
        trials: Trials in the order of the rows.
    """
    rows = [
        {
            "stage": trial.stage,
            "number": trial.number,
            "mAP": trial.value,
            "seconds": round(trial.seconds, 1),
            **trial.settings,
            "error": trial.error,
        }
        for trial in trials
    ]
    return pd.DataFrame(rows)


def narrowed(space: Sequence[Dimension], done: Sequence[SearchTrial]) -> tuple[Dimension, ...]:
    """Returns the part of a space that is spanned by the best quarter of its trials, at least three of them.

    Args:
        space: The searched space.
        done: Successful trials.
    """
    best = ranked(done)[: max(_LEAST, math.ceil(_PROMISING * len(done)))]
    return tuple(dimension.narrowed([trial.settings[dimension.name] for trial in best]) for dimension in space)
