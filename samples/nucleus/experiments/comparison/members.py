"""Members of a comparison: models with their settings and initial weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nucleus.ensemble.ensemble_model import EnsembleModel
from nucleus.ensemble.fusion.model import FusionModel
from nucleus.models.network import PUBLISHED_WEIGHTS, RANDOM
from nucleus.models.recipe import Recipe
from nucleus.models.registry import NETWORKS, ModelConfig, detection_config, make_config
from nucleus.models.weights import existing_file
from nucleus.training.recipes import scratch_recipe
from trainkit.files import file_digest

# Names of members are names of their folders too.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Member:
    """One model of a comparison.

    Attributes:
        name: Name of the member's folder, and its name in tables and pictures.
        model: A name in `nucleus.models.registry.MODELS`.
        preset: A name in the model's presets.
        settings: Settings on top of the preset, as `Settings.update` takes them.
        weights: Initial weights of every training: "none" for random ones, "coco", "imagenet", "shipped", or a file.
        epochs: Number of epochs of every training; None for those of STAGES.
    """

    name: str
    model: str
    preset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str = RANDOM
    epochs: int | None = None

    @property
    def learns(self) -> bool:
        """True if the model is trained; a classical method is not."""
        return self.model in NETWORKS

    @property
    def file(self) -> Path | None:
        """The file of the initial weights; None if they are not in a file.

        Raises:
            WeightsNotFoundError: There is no such file.
        """
        return None if self.weights in (*PUBLISHED_WEIGHTS, RANDOM) else existing_file(self.weights, self.model)

    def check(self) -> None:
        """Checks the member, so that errors show before long work.

        Raises:
            ValueError: The name, the model, the preset, a setting or the weights cannot be used.
        """
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"A member's name has letters, digits, '_', '-' and '.'. Received: {self.name!r}")
        if self.model == FusionModel.kind:
            raise ValueError(f"{self.name}: a fusion is fitted by itself, by `nucleus ensemble fuse`; it is no member.")
        if self.model == EnsembleModel.kind:
            raise ValueError(f"{self.name}: an ensemble is made of the members that learn; it is no member itself.")
        self.detection_config()
        if not self.learns:
            if self.weights != RANDOM or self.epochs is not None:
                raise ValueError(f"{self.name}: a {self.model} is not trained: it has no weights and no epochs.")
            return
        make_config("training", self.preset, self.settings, self.model)
        unknown = self.weights in PUBLISHED_WEIGHTS and self.weights not in NETWORKS[self.model].pretrained
        if self.file is None and unknown:
            choices = ", ".join((*NETWORKS[self.model].pretrained, RANDOM))
            raise ValueError(f"{self.name}: a {self.model} cannot begin with {self.weights}, but {choices} or a file.")

    def recipe(self) -> Recipe:
        """Returns the recipe of the member's trainings.

        Nothing is chosen by held-out images: they are not scored during training, and the last epoch's weights are
        used.
        """
        if not self.learns:
            return Recipe(self.preset, self.settings, self.model)
        settings = {**self.settings, "EVALUATE_EVERY": 0}
        if self.weights == RANDOM:
            return scratch_recipe(Recipe(self.preset, model=self.model), settings)
        return Recipe(self.preset, settings, self.model)

    def detection_config(self) -> ModelConfig:
        """Returns the configuration that detects with what the member's trainings learn."""
        return detection_config(self.recipe())

    def describe(self) -> dict[str, Any]:
        """Returns everything that the results depend on, as JSON-compatible values; of a weights file its SHA-256."""
        digest = {} if self.file is None else {"weights_sha256": file_digest(self.file, "sha256")}
        return {**asdict(self), "settings": {name: str(value) for name, value in self.settings.items()}, **digest}


DEFAULT_MEMBERS = (
    Member("classical", "classical", "active-contours"),
    Member("unet", "unet", "small"),
    Member("mask_rcnn", "mask_rcnn", "small"),
)


def quick_member(member: Member) -> Member:
    """Returns a tiny version of a member, trained in seconds from random weights; its scores are meaningless.

    Args:
        member: The member; one that is not trained is returned unchanged.
    """
    if not member.learns:
        return member
    from nucleus.experiments.tiny import tiny_settings

    settings = tiny_settings(member.model, member.preset, member.settings)
    return replace(member, settings=settings, weights=RANDOM, epochs=1)
