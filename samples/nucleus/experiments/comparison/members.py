"""Members of a comparison: models with their settings and initial weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nucleus.datasets.fingerprint import sha256
from nucleus.models.config import inference_settings, make_config
from nucleus.models.registry import MODELS
from nucleus.models.weights import DOWNLOADABLE, Recipe, existing_file

# Names of members are names of their folders too.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
FROM_SCRATCH = "none"


@dataclass(frozen=True)
class Member:
    """One model of a comparison.

    Attributes:
        name: Name of the member's folder, and its name in tables and pictures.
        model: A name in `nucleus.models.registry.MODELS`.
        preset: A name in the model's presets.
        settings: Settings on top of the preset, as `Settings.update` takes them.
        weights: Initial weights of every training: "none" for random ones, "coco", "imagenet", or a file.
        epochs: Number of epochs of every training; None for those of STAGES.
    """

    name: str
    model: str
    preset: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: str = FROM_SCRATCH
    epochs: int | None = None

    @property
    def learns(self) -> bool:
        """True if the model is trained; a classical method is not."""
        return MODELS[self.model].learns

    @property
    def file(self) -> Path | None:
        """The file of the initial weights; None if they are not in a file."""
        return None if self.weights in (*DOWNLOADABLE, FROM_SCRATCH) else Path(self.weights)

    def check(self) -> None:
        """Checks the member, so that errors show before long work.

        Raises:
            ValueError: The name, the model, the preset, a setting or the weights cannot be used.
        """
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"A member's name has letters, digits, '_', '-' and '.'. Received: {self.name!r}")
        make_config("inference", self.preset, inference_settings(self.settings), self.model)
        if not self.learns:
            if self.weights != FROM_SCRATCH or self.epochs is not None:
                raise ValueError(f"{self.name}: a {self.model} is not trained: it has no weights and no epochs.")
            return
        make_config("training", self.preset, self.settings, self.model)
        if self.file is not None:
            existing_file(self.file)
        elif self.weights in DOWNLOADABLE and self.weights not in MODELS[self.model].pretrained:
            choices = ", ".join((*MODELS[self.model].pretrained, FROM_SCRATCH))
            raise ValueError(f"{self.name}: a {self.model} cannot begin with {self.weights}, but {choices} or a file.")

    def recipe(self) -> Recipe:
        """Returns the recipe of the member's trainings; needs Keras.

        Nothing is chosen by held-out images: they are not scored during training, and the last epoch's weights are
        used.
        """
        from nucleus.training.training import from_scratch_settings

        settings = {**self.settings, "EVALUATE_EVERY": 0}
        if self.weights == FROM_SCRATCH:
            config = make_config("training", self.preset, settings, self.model)
            settings = {**from_scratch_settings(config, settings), **settings}
        return Recipe(self.preset, settings, self.model)

    def describe(self) -> dict[str, Any]:
        """Returns everything that the results depend on, as JSON-compatible values; of a weights file its SHA-256."""
        digest = {} if self.file is None else {"weights_sha256": sha256(self.file)}
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
    from nucleus.experiments.publications.quick import quick_settings

    settings = quick_settings(member.model, member.preset, member.settings)
    return replace(member, settings=settings, weights=FROM_SCRATCH, epochs=1)
