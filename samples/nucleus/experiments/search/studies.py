"""Random search for settings: first in the whole space, then in its most promising part.

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
from nucleus.experiments.search.space import Dimension, SearchTrial, as_table, narrowed, ranked
from nucleus.images.reading import ImageFileError
from trainkit.download import DownloadError
from trainkit.files import write_text

if TYPE_CHECKING:
    import optuna

# Function from a trial's settings and folder to its score.
Score = Callable[[Mapping[str, Any], Path], float]

STORAGE_FILE = "search.sqlite3"
TRIALS_FILE = "trials.csv"
STAGES = ("broad", "narrow")
# Attribute of a study with everything that its trials depend on.
_PLAN = "plan"
# Failures unrelated to the trial's settings; the trial is retried.
_OUTSIDE = (OSError, DownloadError, MemoryError, ImageFileError, DatasetError)


@dataclass(frozen=True)
class SearchPlan:
    """The space and the extent of a search.

    Attributes:
        space: Dimensions; every trial has a value for each.
        trials: Number of trials of the broad search.
        narrow: Number of trials of the narrow search that follows; 0 for none.
        seed: Seed of the random choice of trials.
        base: Everything else that the scores depend on, as JSON-compatible values; a resumed search must have the same.
    """

    space: tuple[Dimension, ...]
    trials: int
    narrow: int = 0
    seed: int = 0
    base: Mapping[str, Any] = field(default_factory=dict)


class SearchStoppedError(ValueError):
    """A trial could not be run, for a reason unrelated to its settings."""


def search(plan: SearchPlan, score: Score, folder: Path) -> list[SearchTrial]:
    """Runs trials, and resumes an earlier search in the same folder.

    The settings of a trial follow from seed, stage and number alone, so a resumed search gives the same result as an
    uninterrupted one. A later call may ask for more trials of either stage; a narrow search that has begun stays in its
    part of the space, whatever additional broad trials find. A trial that fails because of its settings is recorded,
    and the search continues. The folder receives `search.sqlite3` (Optuna's storage), `trials.csv` after every trial,
    and a folder for each trial. Only one process may search in a folder at a time.

    Args:
        plan: Space, numbers of trials and seed.
        score: Function from a trial's settings and folder to its score; higher is better.
        folder: Folder of the search.

    Returns:
        All trials, including those of earlier calls, the best first and failed ones last.

    Raises:
        ValueError: The folder holds a different search, or Optuna is not installed.
        SearchStoppedError: A file, an image, a download or memory is missing. The trial is not recorded: the next call
            retries it.
    """
    require_optuna()
    folder.mkdir(parents=True, exist_ok=True)
    return _Search(plan, score, folder).run()


def require_optuna() -> None:
    """Checks that Optuna is installed.

    Raises:
        ValueError: Optuna is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ValueError('A search needs Optuna, which is not installed: pip install optuna (or ".[search]")')


@dataclass(frozen=True)
class _Stage:
    """A search stage, its space and its Optuna study."""

    name: str
    space: tuple[Dimension, ...]
    study: optuna.Study

    def trials(self) -> list[SearchTrial]:
        """Returns the completed trials, successful or failed."""
        every = self.study.get_trials(deepcopy=False)
        found = [trial for trial in every if trial.value is not None or "error" in trial.user_attrs]
        return [
            SearchTrial(self.name, number, trial.params, trial.value, **trial.user_attrs)
            for number, trial in enumerate(found, start=1)
        ]


class _Search:
    """A search under way: its stages, of which the narrow one may not have begun."""

    def __init__(self, plan: SearchPlan, score: Score, folder: Path):
        self._plan, self._score, self._folder = plan, score, folder
        self._stages: list[_Stage] = []

    def run(self) -> list[SearchTrial]:
        """Runs the trials that are left, and returns all."""
        plan, (broad_name, narrow_name) = self._plan, STAGES
        broad = self._open(broad_name, plan.space)
        kept = _kept_space(narrow_name, self._folder / STORAGE_FILE)
        narrow = None if kept is None else self._open(narrow_name, kept)
        more = plan.trials - len(broad.trials())
        if narrow is not None and more > 0:
            print(
                f"{more} more broad trials: the narrow search has begun, and stays in the part of the space that the "
                "earlier ones span. To narrow it by all of them, choose another output folder."
            )
        self._run_stage(broad, plan.trials)
        done = [trial for trial in broad.trials() if trial.value is not None]
        if plan.narrow and done:
            self._run_stage(narrow or self._open(narrow_name, narrowed(plan.space, done)), plan.narrow)
        return ranked(self._trials())

    def _open(self, name: str, space: tuple[Dimension, ...]) -> _Stage:
        self._stages.append(_Stage(name, space, _open_study(name, space, self._plan, self._folder / STORAGE_FILE)))
        return self._stages[-1]

    def _trials(self) -> list[SearchTrial]:
        return [trial for stage in self._stages for trial in stage.trials()]

    def _run_stage(self, stage: _Stage, count: int) -> None:
        """Runs the remaining trials of a stage, and writes the table of all stages after each."""
        from optuna.samplers import RandomSampler

        name, study = stage.name, stage.study
        distributions = {dimension.name: dimension.distribution() for dimension in stage.space}
        while (number := len(stage.trials()) + 1) <= count:
            study.sampler = RandomSampler(seed=zlib.crc32(f"{self._plan.seed} {name} {number}".encode()))
            asked = study.ask(distributions)
            settings = " ".join(f"{setting}={value}" for setting, value in asked.params.items())
            print(f"{name} trial {number} of {count}: {settings}")
            try:
                _run_trial(study, asked, self._score, self._folder / f"{name}-{number:03d}")
            except _OUTSIDE as error:
                raise SearchStoppedError(
                    f"{self._folder}: {name} trial {number} could not be run ({_cause(error)}). Once the cause is "
                    "fixed, the same command with this output folder goes on with it."
                ) from error
            table = as_table(self._trials())
            write_text(self._folder / TRIALS_FILE, table.to_csv(index=False, lineterminator="\n"))


def _run_trial(study: optuna.Study, asked: optuna.Trial, score: Score, folder: Path) -> None:
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
    """Returns the space of a stage that an earlier call has begun; None if none has."""
    import optuna

    url = _storage(path)
    if stage not in optuna.get_all_study_names(url):
        return None
    facts = optuna.load_study(study_name=stage, storage=url).user_attrs.get(_PLAN)
    if facts is None:
        return None
    return tuple(Dimension(**{**dimension, "values": tuple(dimension["values"])}) for dimension in facts["space"])


def _open_study(stage: str, space: Sequence[Dimension], plan: SearchPlan, path: Path) -> optuna.Study:
    """Returns the study of a stage, after marking interrupted trials as failed.

    Raises:
        ProvenanceError: The file holds a different search, or trials without a note of what they depend on.
        ValueError: The file is not a storage of Optuna.
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
    trials = study.get_trials(deepcopy=False)
    if trials or _PLAN in study.user_attrs:
        require_same(f"{path}, {stage} search", "settings", study.user_attrs.get(_PLAN), facts)
    else:
        study.set_user_attr(_PLAN, facts)
    for trial in trials:
        if not trial.state.is_finished():
            # Left by an interrupted call: the number is run again.
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study
