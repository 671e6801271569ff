"""Folds for cross-validation that hold each imaging modality in equal parts."""

from __future__ import annotations

import json
import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nucleus.datasets.layouts.base import UNKNOWN_MODALITY, DatasetError
from trainkit.files import write_text

FOLDS_FILE = "folds.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Folds:
    """A division of a data set.

    Attributes:
        ids: the image ids of each fold; no id is in two.
        held_out: number of the fold that a training run validates on, counted from 1; None where this is no run's.
    """

    ids: tuple[tuple[str, ...], ...]
    held_out: int | None = None

    def split(self, number: int | None) -> tuple[set[str], set[str]]:
        """Ids to train on and ids to validate on.

        Args:
            number: the fold to validate on, counted from 1.

        Raises:
            DatasetError: there is no such fold.
        """
        if number not in range(1, len(self.ids) + 1):
            raise DatasetError(f"There are folds 1 to {len(self.ids)}. Received: fold {number}")
        rest = (fold for position, fold in enumerate(self.ids, start=1) if position != number)
        return {name for fold in rest for name in fold}, set(self.ids[number - 1])

    def learned(self) -> set[str]:
        """Ids that a run was trained on: all but those held out; none where this is no run's."""
        return set() if self.held_out is None else self.split(self.held_out)[0]

    def save(self, path: str | os.PathLike) -> None:
        """Writes the folds as JSON: {"held_out": number or null, "folds": [[id, ...], ...]}.

        Args:
            path: the file.

        Raises:
            OSError: the file cannot be written.
        """
        write_text(path, json.dumps({"held_out": self.held_out, "folds": self.ids}, indent=1) + "\n")


def make_folds(modalities: Mapping[str, str], count: int, seed: int = 0) -> Folds:
    """Deals images out to folds, at random within each modality.

    In each modality, and in all together, two folds differ by one image at most. The order of the images does not
    matter.

    Args:
        modalities: image id -> modality.
        count: number of folds, 2 or more.
        seed: chooses the division.

    Raises:
        DatasetError: there are fewer than two folds or fewer images than folds.
    """
    if not 2 <= count <= len(modalities):
        raise DatasetError(f"{len(modalities)} images cannot be divided into {count} folds")
    rng = np.random.default_rng(seed)
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(modalities):
        groups[modalities[name]].append(name)
    # Dealt in one go, so that the next modality begins where the last one ended.
    dealt = [name for modality in sorted(groups) for name in rng.permutation(groups[modality]).tolist()]
    return Folds(tuple(tuple(sorted(dealt[start::count])) for start in range(count)))


def divide_images(infos: Iterable[Mapping[str, Any]], count: int, seed: int = 0) -> Folds:
    """Deals the images of a data set out to folds, see `make_folds`; warns where folds cannot be stratified.

    Args:
        infos: entries of `NucleusDataset.image_info`.
        count: see `make_folds`.
        seed: see `make_folds`.

    Raises:
        DatasetError: see `make_folds`.
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
    """Returns the folds of the run that weights come from, or None if it held none out.

    They are beside the weights: under their own name, as `nucleus pack` writes them, or `folds.json` of the run.

    Args:
        weights: the weights file.

    Raises:
        DatasetError: the file is there and cannot be used.
    """
    weights = Path(weights)
    for path in (folds_beside(weights), weights.parent / FOLDS_FILE):
        if path.is_file():
            return read_folds(path)
    return None


def folds_beside(weights: str | os.PathLike) -> Path:
    """Where the folds of weights are that stand alone: `nucleus_mine.folds.json` beside `nucleus_mine.h5`."""
    return Path(weights).with_name(f"{Path(weights).stem}.{FOLDS_FILE}")


def read_folds(path: str | os.PathLike) -> Folds:
    """Reads what `Folds.save` wrote.

    Args:
        path: the file.

    Raises:
        DatasetError: it cannot be read, is no such file, or an id occurs twice.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_bytes())
        held_out, ids = content["held_out"], tuple(tuple(map(str, fold)) for fold in content["folds"])
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, TypeError, KeyError) as error:
        raise DatasetError(f"{path}: is no file of folds ({type(error).__name__}: {error})") from error
    if held_out is not None and held_out not in range(1, len(ids) + 1):
        raise DatasetError(f"{path}: there is no fold {held_out!r} to hold out")
    names = [name for fold in ids for name in fold]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DatasetError(f"{path}: the id {twice!r} occurs twice")
    return Folds(ids, held_out)
