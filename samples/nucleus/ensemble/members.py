"""The members of an ensemble: weights files to run, or folders of predictions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from nucleus.datasets.division import require_unseen
from nucleus.datasets.folds import Folds
from nucleus.ensemble.config import EnsembleConfig
from nucleus.ensemble.ensemble_model import EnsembleModel
from nucleus.ensemble.fitted import Ensemble, check_members
from nucleus.models.base import NucleusModel
from nucleus.models.loading import load_member
from nucleus.prediction.folders import PredictionFolder

_VIEWS = "TEST_TIME_AUGMENTATION"
_EACH_FOLD = (
    "Detect each fold with the weights that held it out, and give all these folders of predictions under one name"
)


@dataclass(frozen=True)
class Members:
    """Members of an ensemble.

    Attributes:
        paths: Name -> one weights file, or folders of predictions by one model, such as those of its folds.
        settings: Attribute name -> value, on top of the recipes of the members that are weights files.
    """

    paths: Mapping[str, tuple[Path, ...]]
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, Path]], settings: Mapping[str, Any]) -> Members:
        """Returns the members of (name, path) pairs; pairs of one name are one member.

        Args:
            pairs: Name and path of each weights file or folder.
            settings: Attribute name -> value, on top of the recipes of the weights files.

        Raises:
            ValueError: A name has a weights file and another path, or there are settings and no weights file.
        """
        paths: dict[str, tuple[Path, ...]] = {}
        for name, path in pairs:
            paths[name] = (*paths.get(name, ()), path)
        members = cls(paths, settings)
        for name in members.run:
            if len(paths[name]) > 1:
                raise ValueError(
                    f"{name}: a member is one weights file or folders of predictions. Received: "
                    f"{len(paths[name])} paths"
                )
        if settings and not members.run:
            given = ", ".join(f"{name}={path}" for name, every in paths.items() for path in every)
            raise ValueError(
                "--tta needs a member that is run, a weights file: what is in folders has been predicted, by `nucleus "
                f"detect --tta` or without. Received: {given}"
            )
        return members

    @property
    def run(self) -> list[str]:
        """Names of the members that are weights files."""
        return [name for name, paths in self.paths.items() if any(path.is_file() for path in paths)]

    @property
    def files(self) -> list[Path]:
        """Weights files and folders of all members."""
        return [path for paths in self.paths.values() for path in paths]

    @property
    def views(self) -> str | None:
        """Test-time augmentation of the members that are run; None where all are folders of predictions."""
        return self.settings.get(_VIEWS, "none") if self.run else None

    def require_unseen(self, ids: Collection[str]) -> None:
        """Raises an error if a member that is run was trained on some of the images.

        Args:
            ids: Ids of the images.

        Raises:
            DatasetError: A member was trained on some of the images, according to its run's folds.
        """
        for name in self.run:
            require_unseen(self.paths[name][0], ids, _EACH_FOLD)

    def model(
        self, ensemble: Ensemble | None = None, config: EnsembleConfig | None = None, folds: Folds | None = None
    ) -> EnsembleModel:
        """Returns an ensemble of these members.

        Its file names the members where all are weights files in the settings of their recipes.

        Args:
            ensemble: Ensemble fitted to these members; None for one to fit.
            config: Settings of the ensemble; by default those of `ensemble`.
            folds: Division for the cross-validation of a fit.

        Raises:
            ValueError: Weights or a folder cannot be used, or the members are not the ensemble's.
        """
        if ensemble is not None:
            check_members(ensemble.members, self.paths)
        model = EnsembleModel(
            {name: self._member(name) for name in self.paths},
            ensemble,
            {name: paths[0] for name, paths in self.paths.items()} if self._run_as_they_are else None,
            config,
            folds,
            notes={_VIEWS: self.views},
        )
        if ensemble is not None:
            model.origin = partial(Members.model, self, ensemble, config, folds)
        return model

    def absolute(self) -> Members:
        """Returns the same members by absolute paths, which other processes know too."""
        return replace(
            self, paths={name: tuple(path.absolute() for path in paths) for name, paths in self.paths.items()}
        )

    def differing_views(self, about: Mapping[str, Any]) -> str | None:
        """Returns the test-time augmentation that an ensemble was fitted with if it differs from the members'.

        Args:
            about: Note of the ensemble's file.
        """
        fitted = about.get(_VIEWS)
        return fitted if None not in (fitted, self.views) and fitted != self.views else None

    @property
    def _run_as_they_are(self) -> bool:
        return not self.settings and len(self.run) == len(self.paths)

    def _member(self, name: str) -> NucleusModel | PredictionFolder:
        if name not in self.run:
            return PredictionFolder(self.paths[name], name)
        return load_member(self.paths[name][0], self.settings)
