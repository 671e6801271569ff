"""The images that a model is scored or tuned on: a subset, or a fold that its training held out.

Images that weights are known to have been trained on are never used without an explicit request.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.folds import Folds, divide_images, find_folds, read_folds
from nucleus.datasets.layouts.base import DatasetError
from nucleus.datasets.source import ImageSource

DEFAULT_FOLDS = 4
# Argument `which` of `warn_if_seen` for the validation images of a training.
VALIDATION = "the {} images to validate on: scores on them say little about new images"
# Name of the images in errors and warnings.
_THESE = "these {} images"
_ALL_THE_SAME = "To take training images all the same, name a --subset without --fold"
# Images that training divides by default.
POOL = "train+val"

_log = logging.getLogger(__name__)


def choose_folds(
    source: ImageSource,
    subset: str,
    folds: int | Path | None = None,
    seed: int = 0,
    only: Collection[str] | None = None,
) -> Folds:
    """Returns the folds of a file, or divides a subset into folds.

    Args:
        source: The data set.
        subset: Images to divide.
        folds: Number of folds, or a `folds.json`; by default four.
        seed: Seed of the division into folds.
        only: Ids of the images of the subset to divide; by default all.

    Raises:
        DatasetError: The file or the data set cannot be used, or there are fewer images than folds.
    """
    if isinstance(folds, Path):
        return read_folds(folds)
    count = DEFAULT_FOLDS if folds is None else folds
    return divide_images(source.load(subset, only=only).image_info, count, seed)


def refuse_folds_alone(fold: int | None, folds: int | Path | None) -> None:
    """Raises DatasetError where folds are given without the one to take, which would have no effect."""
    if fold is None and folds is not None:
        raise DatasetError("--folds divides the images: say with --fold=K which part of them to take")


def select_images(
    source: ImageSource,
    weights: Path | None,
    *,
    subset: str | None = None,
    fold: int | None = None,
    folds: int | Path | None = None,
    seed: int = 0,
    default: str = "val",
    own: Literal["held out", "learned", "none"] = "held out",
    **options: Any,
) -> tuple[NucleusDataset, str]:
    """Reads the images to run a model on.

    Args:
        source: The data set.
        weights: The model's weights file; None where it has none, or predictions come from elsewhere.
        subset: Requested subset; None for the default.
        fold: Number of the fold of the subset to take, from 1 on; None for all of the subset.
        folds: Number of folds, or a `folds.json`; None for those of the weights' run, else four.
        seed: Seed of the division where `folds` is a number.
        default: Subset if none is requested.
        own: Images to use instead of the default if the run of the weights held out a fold: that fold, the others, or
            none.
        options: Other arguments of `NucleusDataset.load_nucleus`.

    Returns:
        The prepared data set, and a short description of its images.

    Raises:
        DatasetError: Images of the fold are among those that the weights were trained on, there is no such fold, or an
            image cannot be used.
    """
    divided = None if weights is None else find_folds(weights)
    if divided is not None and divided.held_out is None:
        divided = None
    if fold is not None:
        pool = subset or POOL
        whole = divided if folds is None and divided is not None else choose_folds(source, pool, folds, seed)
        _, chosen = whole.split(fold)
        if weights is not None:
            require_unseen(weights, chosen, _ALL_THE_SAME, f"the {{}} images of fold {fold}")
        if weights is not None and divided is None:
            _log.warning("%s: whether it was trained on images of fold %d is not known", weights, fold)
        return source.load(pool, only=chosen, **options), f"fold {fold} of {len(whole.ids)}"
    refuse_folds_alone(fold, folds)
    if divided is None:
        dataset = source.load(subset or default, **options)
        if subset is None:
            print(f"Taking {source.describe(default, dataset.num_images)}; --subset chooses others, --subset=all all")
        return dataset, subset or default
    name = f"fold {divided.held_out} of {len(divided.ids)}"
    learned, held_out = divided.split(divided.held_out)
    if subset is None and own == "none":
        print(f"The training of {weights} held out {name}: --fold={divided.held_out} takes its images")
    if subset is not None or own == "none":
        dataset = source.load(subset or default, **options)
        if subset is None:
            print(f"Taking {source.describe(default, dataset.num_images)}")
        warn_if_seen(weights, [info["id"] for info in dataset.image_info])
        return dataset, subset or default
    dataset = source.load(POOL, only=held_out if own == "held out" else learned, **options)
    which = name if own == "held out" else f"all but {name}"
    done = "held out of" if own == "held out" else "used in"
    print(f"{dataset.num_images} images ({which}) {done} the training of {weights}")
    return dataset, which


def require_unseen(weights: Path, ids: Collection[str], advice: str, which: str = _THESE) -> None:
    """Raises an error if weights were trained on some of the images, according to their run's folds.

    Args:
        weights: The weights file.
        ids: Ids of the images.
        advice: Advice for the user, a sentence without its full stop.
        which: Name of the images in the error, with {} for their number.

    Raises:
        DatasetError: The weights were trained on some of the images.
    """
    divided, learned = _learned(weights, ids)
    if learned:
        raise DatasetError(
            f"{weights}: was trained on {len(learned)} of {which.format(len(ids))}; it held out fold "
            f"{divided.held_out} of {len(divided.ids)}. {advice}"
        )


def warn_if_seen(weights: Path, ids: Collection[str], which: str = _THESE) -> None:
    """Logs a warning if weights were trained on some of the images, according to their run's folds.

    Args:
        weights: The weights file.
        ids: Ids of the images.
        which: Name of the images in the warning, with {} for their number.
    """
    _, learned = _learned(weights, ids)
    if learned:
        _log.warning("%s: was trained on %d of %s", weights, len(learned), which.format(len(ids)))


def _learned(weights: Path, ids: Collection[str]) -> tuple[Folds | None, set[str]]:
    divided = find_folds(weights)
    return divided, set() if divided is None else divided.learned() & set(ids)
