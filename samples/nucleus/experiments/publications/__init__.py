"""Experiments of publications: their trainings, and the scores they report.

The shipped entries are the TOML files in the folder `data`; `example.toml` explains their keys.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path

from nucleus.experiments.publications.experiment import Experiment
from nucleus.experiments.publications.reading import read_experiments

_FOLDER = Path(__file__).parent
# In the order in which experiments are listed.
SHIPPED_FILES = tuple(
    _FOLDER / "data" / f"{name}.toml" for name in ("data_sets", "mlp", "lehmann", "zhang", "andrade", "vuola")
)
EXAMPLE_FILE = _FOLDER / "example.toml"
EXPERIMENTS: Mapping[str, Experiment] = read_experiments(SHIPPED_FILES)


def with_files(paths: Iterable[Path]) -> Mapping[str, Experiment]:
    """Returns the shipped experiments and those of other files, whose entries may refer to shipped ones.

    Args:
        paths: TOML files; see `EXAMPLE_FILE`.

    Raises:
        EntryError: An entry cannot be used; see `nucleus.experiments.publications.reading.read_experiments`.
        OSError: A file cannot be read.
    """
    return read_experiments([*SHIPPED_FILES, *paths])


def find_experiment(name: str, experiments: Mapping[str, Experiment] = EXPERIMENTS) -> Experiment:
    """Returns the experiment with a name.

    Args:
        name: A key of `experiments`.
        experiments: Name -> experiment; by default the shipped ones.

    Raises:
        ValueError: The name is unknown; the message names similar ones.
    """
    if name not in experiments:
        close = difflib.get_close_matches(name, experiments, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(f"There is no experiment {name!r}. {hint}`nucleus reproduce --list` names them all.")
    return experiments[name]
