"""What a search tries: a space of settings, the trials in it, and the part of the space that did best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from nucleus.training.tuning import parse_values, split_values

if TYPE_CHECKING:
    import optuna

    from nucleus.models.config import NucleusConfig, NucleusUNetConfig

# Share of the trials, the best ones, that span a narrowed space, and how many at least.
_PROMISING, _LEAST = 0.25, 3
_LOG = ":log"


@dataclass(frozen=True)
class Dimension:
    """What is tried of one setting: some values, or a range.

    Attributes:
        name: Of the setting.
        values: As texts; empty for a range.
        low: Of a range, inclusive.
        high: Likewise.
        log: Whether a range is searched by its logarithm.
        whole: Whether it consists of whole numbers.
    """

    name: str
    values: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False

    def narrowed(self, tried: Sequence[Any]) -> Dimension:
        """Returns what is left of it between, or of, the values that did best.

        Args:
            tried: These values, one at least.
        """
        if self.values:
            return Dimension(self.name, tuple(value for value in self.values if value in tried))
        return Dimension(self.name, (), min(tried), max(tried), self.log, self.whole)

    def distribution(self) -> optuna.distributions.BaseDistribution:
        """Returns it as Optuna has it."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.values:
            return CategoricalDistribution(self.values)
        if self.whole:
            return IntDistribution(int(self.low), int(self.high), log=self.log)
        return FloatDistribution(self.low, self.high, log=self.log)


@dataclass(frozen=True)
class SearchTrial:
    """One combination that was tried.

    Attributes:
        stage: One of `nucleus.experiments.search.studies.STAGES`.
        number: In its stage, from 1.
        settings: Name -> value.
        value: Its score; None where it failed.
        seconds: That it took.
        error: Why it failed; empty where it did not.
    """

    stage: str
    number: int
    settings: Mapping[str, Any]
    value: float | None
    seconds: float
    error: str = ""


def parse_dimension(config: NucleusConfig | NucleusUNetConfig, name: str, text: str) -> Dimension:
    """Reads what is to be tried of a setting.

    Args:
        config: Says of which type the setting is, and which values it may have.
        name: Of the setting.
        text: Values separated by commas, such as `SGD,Adam`, or a range `LOW..HIGH` with `:log` behind it for a
            logarithmic one, such as `1e-5..0.1:log`.

    Raises:
        ValueError: The setting is unknown, or cannot have a value.
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
    """Returns trials with the best first and failed ones last."""
    return sorted(trials, key=lambda trial: (trial.value is None, -(trial.value or 0.0)))


def as_table(trials: Sequence[SearchTrial]) -> pd.DataFrame:
    """Returns trials as a table: stage, number, mAP, seconds, one column a setting, error.

    Args:
        trials: In the order wanted.
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
    """Returns the part of a space that the best quarter of its trials spans, of three at least.

    Args:
        space: What was tried.
        done: The trials, with scores.
    """
    best = ranked(done)[: max(_LEAST, math.ceil(_PROMISING * len(done)))]
    return tuple(dimension.narrowed([trial.settings[dimension.name] for trial in best]) for dimension in space)
