"""Experiments of publications, a module each publication: what they trained, and what they reported of it."""

from __future__ import annotations

import difflib

from nucleus.experiments.publications import andrade, lehmann, mlp, vuola, zhang
from nucleus.experiments.publications.experiment import Experiment

# To add one, add it to its publication's module.
EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment for module in (mlp, lehmann, zhang, andrade, vuola) for experiment in module.EXPERIMENTS
}


def find_experiment(name: str) -> Experiment:
    """Returns the experiment of a name.

    Args:
        name: A key of `EXPERIMENTS`.

    Raises:
        ValueError: There is none.
    """
    if name not in EXPERIMENTS:
        close = difflib.get_close_matches(name, EXPERIMENTS, n=3, cutoff=0.5)
        hint = f"Did you mean {' or '.join(close)}? " if close else ""
        raise ValueError(f"There is no experiment {name!r}. {hint}`nucleus reproduce --list` names them all.")
    return EXPERIMENTS[name]
