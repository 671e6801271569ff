"""Which images a command takes: a subset, or a fold that a training held out of it.

Where it is known what weights were trained on, nobody scores them on that without asking for it.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nucleus.commands.selection import load_dataset
from nucleus.datasets.folds import Folds, divide_images, find_folds, read_folds
from nucleus.datasets.layouts.base import DatasetError

if TYPE_CHECKING:
    from nucleus.datasets.dataset import NucleusDataset

DEFAULT_COUNT = 4
# For `warn_if_seen`, of a training that begins with weights.
VALIDATION = "the {} images to validate on: how it scores on them says little of new images"
# What `nucleus train` divides unless told otherwise.
_POOL = "train+val"

_log = logging.getLogger(__name__)


def choose_folds(args: argparse.Namespace, subset: str, seed: int, only: Collection[str] | None = None) -> Folds:
    """Returns the folds that --folds means: those of a file, or so many of a subset.

    Args:
        args: With `folds` and what `load_dataset` takes.
        subset: The images to divide.
        seed: See `divide_images`.
        only: Ids of those of the images that are divided; by default all.

    Raises:
        DatasetError: The file or the data set cannot be used, or there are fewer images than folds.
    """
    if isinstance(args.folds, Path):
        return read_folds(args.folds)
    return divide_images(load_dataset(args, subset, only=only).image_info, args.folds or DEFAULT_COUNT, seed)


def refuse_folds_alone(args: argparse.Namespace) -> None:
    """Refuses --folds without --fold, which would have no effect.

    Raises:
        DatasetError: It is so.
    """
    if args.fold is None and args.folds is not None:
        raise DatasetError("--folds divides the images: say with --fold=K which part of them to take")


def load_images(
    args: argparse.Namespace,
    weights: Path | None,
    seed: int,
    default: str,
    own: Literal["held out", "learned", "none"] = "held out",
    **options: Any,
) -> tuple[NucleusDataset, str]:
    """Reads the images that --subset, --fold and --folds choose.

    Args:
        args: With `subset`, `fold`, `folds` and what `load_dataset` takes.
        weights: The weights file; None where predictions are scored that come from elsewhere.
        seed: Chooses the folds where --folds is a number.
        default: The subset, if nothing else is said.
        own: What comes instead of the default where the run of the weights held out a fold: that fold, the others, or
            nothing.
        options: What else `load_dataset` takes.

    Returns:
        The data set, and in a few words which images of it.

    Raises:
        DatasetError: Images of the fold are among those that the weights were trained on; there is no such fold; or
            see `load_dataset`.
    """
    divided = None if weights is None else find_folds(weights)
    if divided is not None and divided.held_out is None:
        divided = None
    if args.fold is not None:
        return _load_fold(args, weights, divided, seed, **options)
    refuse_folds_alone(args)
    if divided is None:
        return load_dataset(args, args.subset or default, **options), args.subset or default
    fold = f"fold {divided.held_out} of {len(divided.ids)}"
    learned, held_out = divided.split(divided.held_out)
    if args.subset is None and own == "none":
        print(f"The training of {weights} held out {fold}: --fold={divided.held_out} takes its images")
    if args.subset is not None or own == "none":
        dataset = load_dataset(args, args.subset or default, **options)
        warn_if_seen(weights, [info["id"] for info in dataset.image_info])
        return dataset, args.subset or default
    dataset = load_dataset(args, _POOL, only=held_out if own == "held out" else learned, **options)
    which = fold if own == "held out" else f"all but {fold}"
    done = "held out of" if own == "held out" else "used in"
    print(f"{dataset.num_images} images ({which}) {done} the training of {weights}")
    return dataset, which


def require_unseen(weights: Path, ids: Collection[str], advice: str) -> None:
    """Makes sure that weights were not trained on images, as far as their run's folds tell.

    Args:
        weights: The weights file.
        ids: Of the images.
        advice: What to do instead, a sentence without its full stop.

    Raises:
        DatasetError: They were trained on some of them.
    """
    divided, learned = _learned(weights, ids)
    if learned:
        raise DatasetError(
            f"{weights}: was trained on {len(learned)} of these {len(ids)} images; it held out fold "
            f"{divided.held_out} of {len(divided.ids)}. {advice}"
        )


def warn_if_seen(weights: Path, ids: Collection[str], which: str = "these {} images") -> None:
    """Warns where weights were trained on some of the images, as far as their run's folds tell.

    Args:
        weights: The weights file.
        ids: Of the images.
        which: What the warning calls them, with {} for their number.
    """
    _, learned = _learned(weights, ids)
    if learned:
        _log.warning("%s: was trained on %d of %s", weights, len(learned), which.format(len(ids)))


def _learned(weights: Path, ids: Collection[str]) -> tuple[Folds | None, set[str]]:
    divided = find_folds(weights)
    return divided, set() if divided is None else divided.learned() & set(ids)


def _load_fold(
    args: argparse.Namespace, weights: Path | None, divided: Folds | None, seed: int, **options: Any
) -> tuple[NucleusDataset, str]:
    pool = args.subset or _POOL
    folds = divided if args.folds is None and divided is not None else choose_folds(args, pool, seed)
    _, chosen = folds.split(args.fold)
    learned = set() if divided is None else divided.learned()
    if chosen & learned:
        raise DatasetError(
            f"{weights}: was trained on {len(chosen & learned)} of the {len(chosen)} images of fold {args.fold}; it "
            f"held out fold {divided.held_out} of {len(divided.ids)}. To take training images all the same, name a "
            "--subset without --fold"
        )
    if weights is not None and divided is None:
        _log.warning("%s: whether it was trained on images of fold %d is not known", weights, args.fold)
    return load_dataset(args, pool, only=chosen, **options), f"fold {args.fold} of {len(folds.ids)}"
