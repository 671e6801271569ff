"""A fitted ensemble with its members' models, as a nucleus model."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nucleus.datasets.folds import divide_images
from nucleus.ensemble.examples import make_examples
from nucleus.ensemble.fitting import FitSettings, Fitted, fit
from nucleus.ensemble.model import Combination, Ensemble, check_members, read_ensemble
from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.limits import limits_of
from nucleus.models.settings import PredictionSettings
from nucleus.prediction.predictions import ModelPredictions

if TYPE_CHECKING:
    from nucleus.datasets.dataset import NucleusDataset

# Default number of folds of a fit.
_FOLDS = 4


class EnsembleModel(NucleusModel):
    """An ensemble that runs its members and keeps, of overlapping nuclei, those with the highest predicted IoU.

    Args:
        members: Name -> model of each member.
        ensemble: Ensemble fitted to these members; None before `fit`.
        files: Name -> weights file of each member, for `save`; None where the members come from elsewhere.

    Raises:
        ValueError: The members are not the ensemble's.
    """

    def __init__(
        self,
        members: Mapping[str, NucleusModel],
        ensemble: Ensemble | None = None,
        files: Mapping[str, str | os.PathLike] | None = None,
    ):
        if ensemble is not None:
            check_members(ensemble.members, members)
        self.members, self.ensemble, self.files = dict(members), ensemble, dict(files or {})
        # Members preprocess images and have test-time augmentation of their own.
        self.config = PredictionSettings()

    @classmethod
    def load(cls, path: str | os.PathLike, load_member: Callable[[Path], NucleusModel]) -> EnsembleModel:
        """Returns the ensemble of a file that names the weights of its members.

        Args:
            path: File that `save` wrote.
            load_member: Returns the model of a weights file.

        Raises:
            ValueError: The file is damaged or names no weights, or a member cannot be loaded.
        """
        ensemble = read_ensemble(path)
        if not ensemble.weights:
            raise ValueError(
                f"{path}: names no weights of its members ({', '.join(ensemble.members)}): give their models, "
                "EnsembleModel(members, read_ensemble(path)), or use `nucleus ensemble predict --member`"
            )
        files = {name: Path(path).parent / file for name, file in ensemble.weights.items()}
        return cls({name: load_member(file) for name, file in files.items()}, ensemble, files)

    def fit(
        self,
        train: NucleusDataset,
        val: Any = None,
        *,
        epochs: int | None = None,
        callbacks: Sequence[Any] = (),
        settings: FitSettings | None = None,
    ) -> Fitted:
        """Learns to predict the quality of the members' nuclei, on images that no member was trained on.

        Args:
            train: Prepared data set with masks, without preprocessing.
            val: Not used: scores are cross-validated over the folds of `train`.
            epochs: Not used: the number of trees is a setting.
            callbacks: Not used.
            settings: Features, rules and trees; by default `FitSettings()`.

        Returns:
            The fitted ensemble with its predictions out of fold, for `nucleus.ensemble.report.report`.

        Raises:
            NothingToLearnError: The members found nothing in the images of a fold.
            ValueError: LightGBM is missing, or a prediction does not fit its image.
        """
        settings = settings or FitSettings()
        finders = {name: ModelPredictions(model, name).find for name, model in self.members.items()}
        examples = make_examples(train, finders, settings.groups)
        fitted = fit(examples, divide_images(train.image_info, _FOLDS, settings.seed).ids, settings)
        self.ensemble = fitted.ensemble
        return fitted

    def save(self, path: str | os.PathLike) -> None:
        """Writes the ensemble as JSON, with the paths of its members' weights relative to it where they are known.

        Args:
            path: File to write, ending in `.json`.

        Raises:
            ValueError: Nothing has been fitted.
            OSError: The file cannot be written.
        """
        folder = Path(path).resolve().parent
        weights = {
            name: Path(os.path.relpath(Path(file).resolve(), folder)).as_posix() for name, file in self.files.items()
        }
        replace(self._fitted(), weights=weights).save(path)

    def combine(self, image: np.ndarray) -> Combination:
        """Finds nuclei, with the member that each is from.

        Args:
            image: uint8 `[H, W, 3]` RGB, as read.
        """
        return self._fitted().combine(image, {name: model.predict(image)[0] for name, model in self.members.items()})

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        predictions = []
        for index, image in enumerate(images):
            with limits_of([index]):
                found = self.combine(image)
            predictions.append(Prediction(found.labels, found.scores))
        return predictions

    def describe(self) -> dict[str, Any]:
        """Adds the members and the fitted trees and rules; see `NucleusModel.describe`."""
        members = {name: model.describe() for name, model in self.members.items()}
        # The same ensemble, whether its file names the members' weights or not.
        digest = hashlib.sha256(replace(self._fitted(), weights={}).to_json().encode()).hexdigest()
        return {**super().describe(), "members": members, "ensemble": f"sha256:{digest}"}

    def _fitted(self) -> Ensemble:
        if self.ensemble is None:
            raise ValueError("The ensemble is not fitted yet: call fit(train).")
        return self.ensemble
