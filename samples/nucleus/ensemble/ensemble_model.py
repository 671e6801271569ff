"""The ensemble as a nucleus model: its members, building, fitting, saving and prediction."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.folds import Folds
from nucleus.ensemble.boosting import import_lightgbm
from nucleus.ensemble.combined import CombinedModel, LoadMember
from nucleus.ensemble.config import PRESETS, EnsembleConfig, split
from nucleus.ensemble.examples import Finder, make_examples
from nucleus.ensemble.fingerprints import exchanged, fingerprints
from nucleus.ensemble.fitted import FINGERPRINTS, Combination, Ensemble, check_members, read_ensemble
from nucleus.ensemble.fitting import FitSettings, fit_ensemble
from nucleus.ensemble.sources import find_source, loadable
from nucleus.ensemble.validation import CrossValidation
from nucleus.models.base import History, NucleusModel, Prediction
from nucleus.models.limits import limits_of
from nucleus.prediction.folders import PredictionFolder
from nucleus.prediction.predictions import ModelPredictions

_log = logging.getLogger(__name__)


class EnsembleModel(CombinedModel):
    """An ensemble that runs its members and keeps, of overlapping nuclei, those with the highest predicted IoU.

    Args:
        members: Name -> model, or folders of its predictions, of each member.
        ensemble: Ensemble fitted to these members; None before `fit`.
        files: Name -> file of each member, or "model:" and a name that `load_model` knows, for `save`; None where the
            members come from elsewhere.
        config: Settings; by default those of `ensemble`.
        folds: Division for the cross-validation of `fit`; by default FOLDS folds stratified by modality.
        notes: Facts on the members that `fit` notes in the ensemble, JSON-compatible.

    A warning is logged for a member that is known to be another model than the one that `ensemble` was fitted to.

    Attributes:
        cross_validation: Images of the last `fit` with what is found in them out of fold; None before.
        elsewhere: Function from the data set of a `fit` to what finds the nuclei of some members instead of these, such
            as workers, given the images in their order; None for none.

    Raises:
        ValueError: The members are not the ensemble's.
    """

    kind = EnsembleConfig.model_kind
    summary = "trees that choose among the nuclei of other models"
    presets = PRESETS
    default_preset = "all-features"
    config_class = EnsembleConfig
    # The same ensemble, whether its file names the members' weights or not.
    _irrelevant = {"weights": {}}

    config: EnsembleConfig

    def __init__(
        self,
        members: Mapping[str, NucleusModel | PredictionFolder],
        ensemble: Ensemble | None = None,
        files: Mapping[str, str | os.PathLike] | None = None,
        config: EnsembleConfig | None = None,
        folds: Folds | None = None,
        notes: Mapping[str, Any] | None = None,
    ):
        if ensemble is not None:
            check_members(ensemble.members, members)
            for name in exchanged(ensemble.fingerprints, members):
                _log.warning(
                    "%s: is another model than the one of this name that the ensemble was fitted to (other weights, or "
                    "other settings of a model without weights), so predicted IoUs do not hold for its nuclei. "
                    "Give that model, or fit the ensemble again",
                    name,
                )
        super().__init__(ensemble, files, config, folds, notes)
        self.members, self.ensemble = dict(members), ensemble
        self.elsewhere: Callable[[NucleusDataset], Mapping[str, Finder]] | None = None

    @classmethod
    def begin(cls, config: EnsembleConfig, load_member: LoadMember) -> EnsembleModel:
        """Returns an ensemble of the configuration's MEMBERS, to be fitted.

        Args:
            config: Settings.
            load_member: Function from a name or a file to its model.

        Raises:
            ValueError: A member cannot be loaded, or two have one name.
        """
        files: dict[str, str | Path] = {}
        for source in split(config.MEMBERS):
            found = find_source(source)
            name = found.stem if isinstance(found, Path) else source
            if name in files:
                raise ValueError(f"MEMBERS: two are called {name!r}. Received: {config.MEMBERS!r}")
            files[name] = found
        return cls({name: load_member(loadable(file)) for name, file in files.items()}, files=files, config=config)

    @classmethod
    def load(
        cls, path: str | os.PathLike, load_member: LoadMember, config: EnsembleConfig | None = None
    ) -> EnsembleModel:
        """Returns the ensemble of a file that names its members.

        Args:
            path: File that `save` wrote.
            load_member: Function from a name or a file to its model.
            config: Settings; by default those of the file.

        Raises:
            ValueError: The file is damaged or names no files of its members, MEMBERS are others, or a member cannot be
                loaded.
        """
        ensemble = read_ensemble(path)
        way = (
            f" ({', '.join(ensemble.members)}): give their models, EnsembleModel(members, read_ensemble(path)), or use "
            "`nucleus ensemble predict --member`"
        )
        members, files = cls._load_members(path, ensemble, config, load_member, way)
        return cls(members, ensemble, files, config)

    @classmethod
    def read(cls, path: str | os.PathLike) -> Ensemble:
        """Reads a fitted ensemble; see `nucleus.ensemble.fitted.read_ensemble`."""
        return read_ensemble(path)

    def _learn(self, train: NucleusDataset) -> History:
        """Learns to predict the quality of the members' nuclei, on images that no member was trained on.

        The scores out of fold, of the ensemble and its members, are then in `cross_validation.report`.

        Args:
            train: Prepared data set with masks, without preprocessing.

        Returns:
            A step for every fold: its number of `images`, the `threshold` chosen on the other folds, and the `mAP` of
            an ensemble fitted to these.

        Raises:
            DatasetError: The data set has no image or preprocesses them.
            NothingToLearnError: The members found nothing in the images of a fold.
            ValueError: LightGBM is missing, or a prediction does not fit its image.
        """
        import_lightgbm()
        settings, folds = FitSettings.from_config(self.config), self._divide(train)
        finders = {name: self._finder(name) for name in self.members}
        if self.elsewhere is not None:
            finders |= self.elsewhere(train)
        examples = make_examples(train, finders, settings.groups)
        fitted = fit_ensemble(examples, folds.ids, settings)
        validation = CrossValidation(examples, fitted)
        noted = {FINGERPRINTS: fingerprints(self.members), **self.notes}
        about = {**fitted.ensemble.about, **validation.report.values(), **noted}
        self.ensemble, self.cross_validation = replace(fitted.ensemble, about=about), validation
        return validation.history()

    def combine(self, image: np.ndarray, image_id: str | None = None) -> Combination:
        """Finds nuclei, with the member that each is from.

        Args:
            image: uint8 `[H, W, 3]` RGB, as read.
            image_id: Name of the image in its data set, by which members that are folders know it.

        Raises:
            ValueError: Nothing has been fitted, or a member that is a folder lacks the image.
        """
        ensemble = self._fitted()
        folders = [name for name, member in self.members.items() if isinstance(member, PredictionFolder)]
        if folders and image_id is None:
            raise ValueError(
                f"{', '.join(folders)}: predictions in folders belong to images of a data set. Give combine() the "
                "image's id, or the ensemble models as members."
            )
        return ensemble.combine(image, {name: self._finder(name)(image_id or "", image) for name in self.members})

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        predictions = []
        for index, image in enumerate(images):
            with limits_of([index]):
                found = self.combine(image)
            predictions.append(Prediction(found.labels, found.scores))
        return predictions

    def _finder(self, name: str) -> Finder:
        member = self.members[name]
        return member.find if isinstance(member, PredictionFolder) else ModelPredictions(member, name).find

    def _fitted(self) -> Ensemble:
        """Returns the fitted ensemble with the rules of the settings."""
        if self.ensemble is None:
            raise ValueError("The ensemble is not fitted yet: call fit(train, None).")
        return replace(self.ensemble, rules=self.config.rules(self.ensemble.rules.threshold))
