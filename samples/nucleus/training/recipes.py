"""The recipe of a training: what is asked for, on top of what the weights were trained with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nucleus.models.network import RANDOM
from nucleus.models.recipe import Recipe
from nucleus.models.registry import NETWORKS, make_config


def training_recipe(base: Recipe, weights: str, settings: Mapping[str, Any], steps: int | None = None) -> Recipe:
    """Returns the recipe of a training.

    Args:
        base: Recipe to begin from, see `nucleus.models.weights.choose_recipe`.
        weights: Weights that the training begins with: "none", "coco", "imagenet", "last" or a file.
        settings: Attribute name -> value that the user asked for.
        steps: Steps an epoch; None for the recipe's.

    Raises:
        ValueError: A setting cannot be used, or ENCODER_WEIGHTS contradict `weights`.
    """
    asked = dict(settings)
    if steps:
        asked["STEPS_PER_EPOCH"] = steps
    if weights == RANDOM:
        return scratch_recipe(base, asked)
    if "ENCODER_WEIGHTS" in asked:
        raise ValueError(
            f"--weights={weights} says what all of the network begins with: ENCODER_WEIGHTS belongs to "
            "--weights=none, or name its file as --weights=FILE"
        )
    return base.with_settings(asked)


def scratch_recipe(base: Recipe, asked: Mapping[str, Any]) -> Recipe:
    """Returns the recipe of a training from random weights: all layers learn, batch normalisation included.

    Args:
        base: Recipe to begin from.
        asked: Attribute name -> value that the user asked for; these come before what random weights need.

    Raises:
        SettingsError: A setting cannot be used.
    """
    config = make_config("training", base.preset, asked, base.model)
    return base.with_settings({**NETWORKS[base.model].scratch_settings(config, asked), **asked})
