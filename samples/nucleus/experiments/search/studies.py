"""Search for settings of a training: at random in a wide space, then in what of it did best.

Lehmann, Agarwal and Lund ("Semantic segmentation of cells from clinical images using deep learning", 2020, section 5.3)
try 50 random combinations for 20 epochs each, then 50 more in the most promising part of the space.
"""

from __future__ import annotations

import importlib.util
import math
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nucleus.datasets.layouts.base import DatasetError
from nucleus.datasets.provenance import require_same
from nucleus.experiments.search.space import Dimension, Trial, as_table, narrowed, ranked
from nucleus.images.reading import ImageFileError
from trainkit.download import DownloadError
from trainkit.files import write_text

if TYPE_CHECKING:
    import optuna

STORAGE_FILE = "search.sqlite3"
TRIALS_FILE = "trials.csv"
STAGES = ("broad", "narrow")
# What a trial's settings have no part in, so that it is worth to run it again.
_OUTSIDE = (OSError, DownloadError, MemoryError, ImageFileError, DatasetError)


@dataclass(frozen=True)
class Plan:
    """A search.

    Attributes:
        space: What is tried; every trial has a value of each.
        trials: Of the broad search.
        narrow: Trials of the narrow search after it; 0 for none.
        seed: Chooses the trials.
        base: What else the trials depend on, for a search that goes on: anything that JSON can hold.
    """

    space: tuple[Dimension, ...]
    trials: int
    narrow: int = 0
    seed: int = 0
    base: Mapping[str, Any] = field(default_factory=dict)


class SearchStoppedError(ValueError):
    """A trial could not be run, for a reason that its settings have no part in."""


def search(plan: Plan, score: Callable[[Mapping[str, Any], Path], float], folder: Path) -> list[Trial]:
    """Tries combinations of settings, and goes on where an earlier call in the same folder was stopped.

    The combination of a trial follows from seed, stage and number alone, so a search that was stopped ends as one that
    was not. More trials of either stage may be asked for later; a narrow search that has begun stays in the part of the
    space that it began with, whatever more trials of the broad one find. A trial that fails by its settings is noted
    and the search goes on. The folder gets `search.sqlite3` (Optuna's storage), `trials.csv` after every trial, and a
    folder a trial; one process at a time.

    Args:
        plan: What is tried.
        score: From the settings of a trial and a folder of its own to its score, more being better.
        folder: Of the search.

    Returns:
        All trials, of earlier calls too, the best first and failed ones last.

    Raises:
        ValueError: The folder holds a search of other things, or Optuna is not installed.
        SearchStoppedError: A file, an image, a download or memory was wanting. The trial counts as not run: the next
            call runs it.
    """
    require_optuna()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / STORAGE_FILE
    stages = [_Stage(STAGES[0], plan.space, _open_study(STAGES[0], plan.space, plan, path))]
    kept = _kept_space(STAGES[1], path)
    if kept is not None:
        stages.append(_Stage(STAGES[1], kept, _open_study(STAGES[1], kept, plan, path)))
        more = plan.trials - len(stages[0].trials())
        if more > 0:
            print(
                f"{more} more broad trials: the narrow search has begun, and stays in the part of the space that the "
                "earlier ones span. In another output folder it is narrowed by all of them."
            )
    _run_stage(stages, 0, plan.trials, plan.seed, score, folder)
    done = [trial for trial in stages[0].trials() if trial.value is not None]
    if plan.narrow and done:
        if kept is None:
            space = narrowed(plan.space, done)
            stages.append(_Stage(STAGES[1], space, _open_study(STAGES[1], space, plan, path)))
        _run_stage(stages, 1, plan.narrow, plan.seed, score, folder)
    return ranked(_all_trials(stages))


def require_optuna() -> None:
    """Says what to install, before anything is trained.

    Raises:
        ValueError: Optuna is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ValueError('A search needs Optuna, which is not installed: pip install optuna (or ".[search]")')


@dataclass(frozen=True)
class _Stage:
    """One of STAGES with its space and Optuna's study of it."""

    name: str
    space: tuple[Dimension, ...]
    study: optuna.Study

    def trials(self) -> list[Trial]:
        """Returns the trials that were run to their end, well or not."""
        found = [
            trial
            for trial in self.study.get_trials(deepcopy=False)
            if trial.value is not None or "error" in trial.user_attrs
        ]
        return [
            Trial(
                self.name,
                number,
                trial.params,
                trial.value,
                trial.user_attrs["seconds"],
                trial.user_attrs.get("error", ""),
            )
            for number, trial in enumerate(found, start=1)
        ]


def _all_trials(stages: Sequence[_Stage]) -> list[Trial]:
    return [trial for stage in stages for trial in stage.trials()]


def _run_stage(
    stages: Sequence[_Stage],
    index: int,
    count: int,
    seed: int,
    score: Callable[[Mapping[str, Any], Path], float],
    folder: Path,
) -> None:
    """Runs the trials of a stage that are still to be run, and writes those of all stages after each."""
    from optuna.samplers import RandomSampler

    name, study = stages[index].name, stages[index].study
    distributions = {dimension.name: dimension.distribution() for dimension in stages[index].space}
    while (number := len(stages[index].trials()) + 1) <= count:
        study.sampler = RandomSampler(seed=zlib.crc32(f"{seed} {name} {number}".encode()))
        asked = study.ask(distributions)
        settings = " ".join(f"{setting}={value}" for setting, value in asked.params.items())
        print(f"{name} trial {number} of {count}: {settings}")
        try:
            _run_trial(study, asked, score, folder / f"{name}-{number:03d}")
        except _OUTSIDE as error:
            raise SearchStoppedError(
                f"{folder}: {name} trial {number} could not be run ({_cause(error)}). When that is mended, the same "
                "command with this output folder goes on with it."
            ) from error
        table = as_table(_all_trials(stages))
        write_text(folder / TRIALS_FILE, table.to_csv(index=False, lineterminator="\n"))


def _run_trial(
    study: optuna.Study, asked: optuna.Trial, score: Callable[[Mapping[str, Any], Path], float], folder: Path
) -> None:
    from optuna.trial import TrialState

    start = time.perf_counter()
    try:
        value = float(score(asked.params, folder))
        if not math.isfinite(value):
            raise ValueError(f"the score is {value}")
    except _OUTSIDE:
        raise
    # Networks fail in the ways of three backends: out of their device's memory, shapes that do not fit, losses that
    # diverge.
    except Exception as error:
        asked.set_user_attr("error", _cause(error))
        asked.set_user_attr("seconds", time.perf_counter() - start)
        study.tell(asked, state=TrialState.FAIL)
        print(f"failed: {error}")
    else:
        asked.set_user_attr("seconds", time.perf_counter() - start)
        study.tell(asked, value)
        print(f"mAP {value:.4f}")


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _storage(path: Path) -> str:
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(path)).render_as_string()


def _kept_space(stage: str, path: Path) -> tuple[Dimension, ...] | None:
    """Returns the space of a stage that an earlier call has begun, None where none has."""
    import optuna

    url = _storage(path)
    if stage not in optuna.get_all_study_names(url):
        return None
    facts = optuna.load_study(study_name=stage, storage=url).user_attrs.get("plan")
    if facts is None:
        return None
    return tuple(Dimension(**{**dimension, "values": tuple(dimension["values"])}) for dimension in facts["space"])


def _open_study(stage: str, space: Sequence[Dimension], plan: Plan, path: Path) -> optuna.Study:
    """Returns the study of a stage, in which no trial runs.

    Raises:
        ValueError: The file is another one, or holds a search of other things.
    """
    import optuna
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(storage=_storage(path), study_name=stage, direction="maximize", load_if_exists=True)
    except (SQLAlchemyError, RuntimeError) as error:
        cause = str(error).splitlines()[0]
        raise ValueError(f"{path}: cannot be used as the storage of a search ({cause})") from error
    facts = {"space": [asdict(dimension) for dimension in space], "seed": plan.seed, "base": dict(plan.base)}
    require_same(f"{path}, {stage} search", "settings", study.user_attrs.get("plan", facts), facts)
    study.set_user_attr("plan", facts)
    for trial in study.get_trials(deepcopy=False):
        if not trial.state.is_finished():
            # Of a call that was stopped: its number is run again.
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study
