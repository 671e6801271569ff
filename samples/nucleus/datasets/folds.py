"""Cross-validation folds, stratified by imaging modality."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nucleus.datasets.layouts.base import UNKNOWN_MODALITY, DatasetError
from trainkit.files import write_text
from trainkit.reading import read_json, reading

FOLDS_FILE = "folds.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folds:
    """Division of a data set into folds.

    Attributes:
        ids: Image ids of each fold; the folds are disjoint.
        held_out: Number, counted from 1, of the fold that a training run validates on; None for folds without a run.
    """

    ids: tuple[tuple[str, ...], ...]
    held_out: int | None = None

    def split(self, number: int | None) -> tuple[set[str], set[str]]:
        """Returns the image ids for training and those for validation.

        Args:
            number: Number of the validation fold, counted from 1.

        Returns:
            (ids of all other folds, ids of this fold).

        Raises:
            DatasetError: There is no such fold.
        """
        if number not in range(1, len(self.ids) + 1):
            raise DatasetError(f"There are folds 1 to {len(self.ids)}. Received: fold {number}")
        rest = (fold for position, fold in enumerate(self.ids, start=1) if position != number)
        return {name for fold in rest for name in fold}, set(self.ids[number - 1])

    def learned(self) -> set[str]:
        """Returns the ids that a run was trained on: all but the held-out fold, and none for folds without a run."""
        return set() if self.held_out is None else self.split(self.held_out)[0]

    def save(self, path: str | os.PathLike) -> None:
        """Writes the folds as JSON: {"held_out": number or null, "folds": [[id, ...], ...]}.

        Args:
            path: Path of the JSON file.

        Raises:
            OSError: The file cannot be written.
        """
        write_text(path, json.dumps({"held_out": self.held_out, "folds": self.ids}, indent=1) + "\n")


def make_folds(modalities: Mapping[str, str], count: int, seed: int = 0) -> Folds:
    """Divides images into folds at random, stratified by modality.

    In each modality, and in all together, two folds differ by one image at most. The result does not depend on the
    order of the images.

    Examples:
        >>> modalities = {"a": "brightfield", "b": "brightfield", "c": "fluorescence", "d": "fluorescence"}
        >>> folds = make_folds(modalities, count=2)
        >>> [sorted(modalities[name] for name in fold) for fold in folds.ids]
        [['brightfield', 'fluorescence'], ['brightfield', 'fluorescence']]
        >>> train, val = folds.split(1)
        >>> len(train), len(val), train & val
        (2, 2, set())

    Args:
        modalities: Image id -> modality.
        count: Number of folds, 2 or more.
        seed: Seed of the division.

    Returns:
        The `Folds`.

    Raises:
        DatasetError: There are fewer than two folds or fewer images than folds.
    """
    if not 2 <= count <= len(modalities):
        raise DatasetError(f"{len(modalities)} images cannot be divided into {count} folds")
    rng = np.random.default_rng(seed)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(modalities):
        groups[modalities[name]].append(name)
    # Dealt in one sequence, so that each modality continues with the fold after the last one's.
    dealt = [name for modality in sorted(groups) for name in rng.permutation(groups[modality]).tolist()]
    return Folds(tuple(tuple(sorted(dealt[start::count])) for start in range(count)))


def divide_images(infos: Iterable[Mapping[str, Any]], count: int, seed: int = 0) -> Folds:
    """Divides the images of a data set into folds, with a warning where modalities are unknown; see `make_folds`.

    Args:
        infos: Entries of `NucleusDataset.image_info`.
        count: Number of folds, 2 or more.
        seed: Seed of the division.

    Returns:
        The `Folds`.

    Raises:
        DatasetError: There are fewer than two folds or fewer images than folds.
    """
    modalities = {info["id"]: info["modality"] for info in infos}
    folds = make_folds(modalities, count, seed)
    unknown = sum(modality == UNKNOWN_MODALITY for modality in modalities.values())
    if unknown:
        _log.warning(
            "The modality of %d of %d images is not known: these go to the %d folds at random, not stratified "
            "by it. `nucleus modality --dataset=PATH` estimates modalities and writes classes.csv into the data set, "
            "or with --output=FILE another file, which --classes=FILE names",
            unknown,
            len(modalities),
            count,
        )
    return folds


def find_folds(weights: str | os.PathLike) -> Folds | None:
    """Reads the folds of the run that trained some weights.

    The file is beside the weights: `<weights>.folds.json`, as `nucleus pack` writes it, or the run's `folds.json`.

    Args:
        weights: Path of the weights file.

    Returns:
        The `Folds`, or None if the run had none.

    Raises:
        DatasetError: The file is there and cannot be read.
    """
    weights = Path(weights)
    for path in (folds_beside(weights), weights.parent / FOLDS_FILE):
        if path.is_file():
            return read_folds(path)
    return None


def folds_beside(weights: str | os.PathLike) -> Path:
    """Returns the path of the folds of a packed weights file: `nucleus_mine.folds.json` for `nucleus_mine.h5`."""
    return Path(weights).with_name(f"{Path(weights).stem}.{FOLDS_FILE}")


def read_folds(path: str | os.PathLike) -> Folds:
    """Reads a file of `Folds.save`.

    Args:
        path: Path of the JSON file.

    Raises:
        DatasetError: The file cannot be read, holds no folds, or has an id twice.
    """
    what = "is no file of folds"
    content = read_json(path, what, DatasetError)
    with reading(path, what, DatasetError):
        held_out, folds = content["held_out"], content["folds"]
        if not isinstance(folds, list) or not folds or not all(isinstance(fold, list) for fold in folds):
            raise ValueError('"folds" must be a list of lists of ids, one at least')
        names = [name for fold in folds for name in fold]
        wrong = next((name for name in names if not isinstance(name, str) or not name), None)
        if wrong is not None:
            raise ValueError(f"an id must be text, and not empty. Received: {wrong!r}")
        if held_out is not None and (type(held_out) is not int or not 1 <= held_out <= len(folds)):
            raise ValueError(f"there is no fold {held_out!r} to hold out")
        twice = next((name for name, uses in Counter(names).items() if uses > 1), None)
        if twice is not None:
            raise ValueError(f"the id {twice!r} occurs twice")
        return Folds(tuple(map(tuple, folds)), held_out)
