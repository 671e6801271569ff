"""Models made of other models, their members: settings, recipe, description and file."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.folds import Folds, divide_images
from nucleus.ensemble.config import ChoiceConfig
from nucleus.ensemble.fitted import FittedFile
from nucleus.ensemble.sources import absolute, loadable, relative
from nucleus.ensemble.validation import CrossValidation
from nucleus.models.base import NucleusModel
from nucleus.models.recipe import Recipe, changed_settings
from nucleus.prediction.folders import PredictionFolder
from trainkit.presets import Preset

# Settings besides those of the members that the file has elsewhere.
_ELSEWHERE = ("FEATURES", "NMS_THRESHOLD", "LEAST_VISIBLE")
# Function from the name or the file of a model to the model.
LoadMember = Callable[[str | Path], NucleusModel]


class CombinedModel(NucleusModel):
    """Base class of models that choose among what their members find, by what they learned of it.

    Attributes:
        kind, summary, presets, default_preset: Name of the kind, one line on it, its presets by name and the default.
        config_class: Class of the settings.
        members: Name -> model, or folders of its predictions, of each member.
        cross_validation: Images of the last `fit` with what is found in them out of fold; None before.
    """

    kind: ClassVar[str]
    summary: ClassVar[str]
    presets: ClassVar[Mapping[str, Preset]]
    default_preset: ClassVar[str]
    config_class: ClassVar[type[ChoiceConfig]]
    # Attributes of the file that do not tell one fitted model from another.
    _irrelevant: ClassVar[Mapping[str, Any]]

    config: ChoiceConfig
    members: Mapping[str, NucleusModel | PredictionFolder]

    def __init__(
        self,
        fitted: FittedFile | None,
        files: Mapping[str, str | os.PathLike] | None,
        config: ChoiceConfig | None,
        folds: Folds | None,
        notes: Mapping[str, Any] | None,
    ):
        if config is None:
            config = self.config_class() if fitted is None else self.config_class.of(fitted)
        self.config, self.files, self.folds, self.notes = config, dict(files or {}), folds, dict(notes or {})
        self.cross_validation: CrossValidation | None = None

    @classmethod
    def make_config(
        cls, mode: Literal["training", "inference"], preset: str, settings: Mapping[str, Any]
    ) -> ChoiceConfig:
        """Returns a configuration, the same in both modes; see `nucleus.models.registry.make_config`."""
        return cls.config_class().update({**cls.presets[preset].settings, **settings})

    @classmethod
    @abstractmethod
    def read(cls, path: str | os.PathLike) -> FittedFile:
        """Reads a file that `save` wrote.

        Args:
            path: The file.

        Raises:
            ValueError: The file is damaged.
        """

    @classmethod
    def read_recipe(cls, path: str | os.PathLike) -> Recipe:
        """Returns the recipe in a file: the settings, without the members and what was fitted.

        Args:
            path: File that `save` wrote.

        Raises:
            ValueError: The file is damaged.
        """
        config = cls.config_class.of(cls.read(path))
        return Recipe(cls.default_preset, changed_settings(config, cls.config_class()), cls.kind)

    @classmethod
    def _load_members(
        cls, path: str | os.PathLike, fitted: FittedFile, config: ChoiceConfig | None, load_member: LoadMember, way: str
    ) -> tuple[dict[str, NucleusModel], dict[str, str | Path]]:
        """Returns the members that a file names and their files, by name; `way` ends the error where it names none."""
        others = {name: getattr(config or cls.config_class, name) for name in cls.config_class.member_settings}
        if any(value != getattr(cls.config_class, name) for name, value in others.items()):
            given = ", ".join(f"{name}={value}" for name, value in others.items())
            raise ValueError(f"{path}: has members of its own. Received: {given}")
        if not fitted.weights:
            raise ValueError(f"{path}: names no weights of its members{way}")
        folder = Path(path).resolve().parent
        files = {name: absolute(source, folder) for name, source in fitted.weights.items()}
        return {name: load_member(loadable(file)) for name, file in files.items()}, files

    def save(self, path: str | os.PathLike) -> None:
        """Writes what was fitted as JSON, with the files of the members relative to it where they are known.

        Args:
            path: File to write, ending in `.json`.

        Raises:
            ValueError: Nothing has been fitted.
            OSError: The file cannot be written.
        """
        folder = Path(path).resolve().parent
        weights = {name: relative(file, folder) for name, file in self.files.items()}
        changed = changed_settings(self.config, self._default_config())
        elsewhere = (*self.config_class.member_settings, *_ELSEWHERE)
        settings = {name: value for name, value in changed.items() if name not in elsewhere}
        replace(self._fitted(), weights=weights, settings=settings).save(path)

    def describe(self) -> dict[str, Any]:
        """Adds the members and what was fitted to them; see `NucleusModel.describe`."""
        members = {
            name: {"folder": member.source} if isinstance(member, PredictionFolder) else member.describe()
            for name, member in self.members.items()
        }
        digest = replace(self._fitted(), **self._irrelevant).digest()
        return {**super().describe(), "members": members, self.kind: digest}

    def _default_config(self) -> ChoiceConfig:
        """Returns the settings that the file does not hold."""
        return self.config_class()

    @abstractmethod
    def _fitted(self) -> FittedFile:
        """Returns what was fitted, with the rules of the settings.

        Raises:
            ValueError: Nothing has been fitted.
        """

    def _divide(self, train: NucleusDataset) -> Folds:
        """Returns the folds of the images to fit to.

        Raises:
            DatasetError: The data set has no image or preprocesses them.
        """
        if train.preprocessing is not None:
            raise DatasetError("Members preprocess images themselves: fit on a dataset without preprocessing.")
        if len(train.image_ids) == 0:
            raise DatasetError("There is no image to fit to.")
        return self.folds or divide_images(train.image_info, self.config.FOLDS, self.config.SEED)
