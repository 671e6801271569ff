"""The images of a training: two subsets, or all folds but one and that one."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.division import VALIDATION, choose_folds, refuse_folds_alone, require_unseen, warn_if_seen
from nucleus.datasets.folds import FOLDS_FILE, Folds, find_folds, read_folds
from nucleus.datasets.layouts.base import DatasetError
from nucleus.datasets.source import ImageSource
from nucleus.models.registry import NETWORKS
from nucleus.models.weights import find_recipe

_log = logging.getLogger(__name__)

_SAME_FOLD = "Hold out what they held out, or begin with other weights"


@dataclass(frozen=True)
class TrainingImages:
    """Images to train on and images to validate on.

    Attributes:
        source: The data set.
        subset: Subset to train on.
        val_subset: Subset to validate on.
        fold: Number, from 1 on, of the fold of both subsets together to validate on; the other folds are trained on.
            None for the subsets as they are.
        folds: Number of folds, or a `folds.json`; None for four.
    """

    source: ImageSource
    subset: str = "train"
    val_subset: str = "val"
    fold: int | None = None
    folds: int | Path | None = None

    def divide(self, weights: Path | None, model: str, seed: int) -> Folds | None:
        """Returns the folds and the held-out one; None where subsets are used. A resumed run keeps its own folds.

        Args:
            weights: File of the initial weights; None if they are not in a file.
            model: Name in `nucleus.models.registry.NETWORKS`.
            seed: Seed of the division into folds, if `folds` is a number.

        Raises:
            DatasetError: The weights were trained on images of the fold, or the resumed run held out another one.
        """
        refuse_folds_alone(self.fold, self.folds)
        run = None if weights is None else NETWORKS[model].run_files.run_of(weights)
        if run is not None:
            return self._folds_of_run(run.folder, seed)
        if self.fold is None:
            return None
        folds = replace(self._choose(seed), held_out=self.fold)
        if weights is not None:
            require_unseen(weights, folds.split(self.fold)[1], _SAME_FOLD)
            if find_folds(weights) is None and find_recipe(weights) is not None:
                _log.warning("%s: whether it was trained on images of fold %d is not known", weights, self.fold)
        return folds

    def load(self, folds: Folds | None, weights: Path | None = None) -> tuple[NucleusDataset, NucleusDataset]:
        """Reads the images, and makes the label images that are not yet cached.

        Args:
            folds: Folds from `divide`.
            weights: File of the initial weights; a warning is logged if they were trained on validation images.

        Returns:
            Prepared data sets to train on and to validate on, without preprocessing.

        Raises:
            DatasetError: An image cannot be used.
        """
        if folds is None:
            train, val = self.source.load(self.subset), self.source.load(self.val_subset)
            print(f"Training on {self.source.describe(self.subset, train.num_images)}")
            print(f"Validating on {self.source.describe(self.val_subset, val.num_images)}")
        else:
            learned, held_out = folds.split(folds.held_out)
            train, val = (self.source.load(self._both, only=ids) for ids in (learned, held_out))
            print(
                f"Training on {train.num_images} images, validating on {val.num_images}: fold {folds.held_out} of "
                f"{len(folds.ids)}"
            )
        if weights is not None:
            warn_if_seen(weights, [info["id"] for info in val.image_info], VALIDATION)
        train.cache_labels()
        val.cache_labels()
        return train, val

    @property
    def _both(self) -> str:
        return "+".join(dict.fromkeys([self.subset, self.val_subset]))

    def _choose(self, seed: int) -> Folds:
        return choose_folds(self.source, self._both, self.folds, seed)

    def _folds_of_run(self, run: Path, seed: int) -> Folds | None:
        """Returns the folds of a resumed run; refuses others, whose validation images it was trained on."""
        path = run / FOLDS_FILE
        own = read_folds(path) if path.is_file() else None
        if self.fold is None:
            return own
        advice = "A resumed run keeps its folds: omit --fold and --folds"
        if own is None:
            raise DatasetError(f"{run}: this run held no fold out. Received: --fold={self.fold}. {advice}")
        asked = own if self.folds is None else self._choose(seed)
        if asked.split(self.fold) != own.split(own.held_out):
            of = "" if self.folds is None else f" --folds={self.folds}"
            raise DatasetError(
                f"{path}: this run held out fold {own.held_out} of {len(own.ids)}, other images than --fold={self.fold}"
                f"{of}. {advice}"
            )
        return own
