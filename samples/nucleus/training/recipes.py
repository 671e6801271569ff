"""The recipe of a training: the user's settings on top of the initial weights' recipe."""

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
        weights: Initial weights: "none", "coco", "imagenet", "last" or a file.
        settings: Attribute name -> value, chosen by the user.
        steps: Steps per epoch; None for the recipe's.

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
        asked: Attribute name -> value, chosen by the user; takes precedence over the settings for random weights.

    Raises:
        SettingsError: A setting cannot be used.
    """
    config = make_config("training", base.preset, asked, base.model)
    return base.with_settings({**NETWORKS[base.model].scratch_settings(config, asked), **asked})
