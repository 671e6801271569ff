"""The recipe of a model: kind, preset and settings, as they stand beside a weights file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from trainkit.files import write_text
from trainkit.settings import Settings

RECIPE_FILE = "recipe.json"
# Kind of model and preset of matterport's nucleus sample: those of recipe files that name none (older ones), and of a
# training for which nothing is named. The kind of the shipped default is `nucleus.models.registry.SHIPPED_MODEL`.
LINEAGE_MODEL, LINEAGE_PRESET = "mask_rcnn", "lineage"


@dataclass(frozen=True)
class Recipe:
    """Kind, preset and settings of a model.

    A training run writes `recipe.json` into its folder. Weights that stand alone have it beside them under their own
    name (`nucleus_mask_rcnn.h5`, `nucleus_mask_rcnn.recipe.json`), so a weights file is enough to build its network.

    Attributes:
        preset: Name in the presets of the kind.
        settings: Attribute name -> value, on top of the preset; as `Settings.update` takes them.
        model: Name in `nucleus.models.registry.MODELS`.
    """

    preset: str = LINEAGE_PRESET
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: str = LINEAGE_MODEL

    def with_settings(self, settings: Mapping[str, Any]) -> Recipe:
        """Returns the recipe with other settings on top of its own.

        Args:
            settings: Attribute name -> value.
        """
        return Recipe(self.preset, {**self.settings, **settings}, self.model)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the recipe into the folder of a training run.

        Args:
            folder: The run's folder.

        Raises:
            OSError: The file cannot be written.
        """
        self.write(Path(folder) / RECIPE_FILE)

    def save_beside(self, weights: str | os.PathLike) -> None:
        """Writes the recipe beside a weights file that stands alone.

        Args:
            weights: The weights file.

        Raises:
            OSError: The file cannot be written.
        """
        self.write(beside(weights))

    def write(self, path: Path) -> None:
        """Writes the recipe as JSON.

        Args:
            path: File to write.

        Raises:
            OSError: The file cannot be written.
        """
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")


def changed_settings(config: Settings, base: Settings) -> dict[str, Any]:
    """Returns the settings in which a configuration differs from another of its kind, as JSON can hold them.

    Args:
        config: The configuration.
        base: The other configuration.

    Returns:
        Attribute name -> value of `config`; arrays as lists.
    """
    values, others = plain_values(config), plain_values(base)
    return {name: value for name, value in values.items() if name not in config._COMPUTED and value != others[name]}


def plain_values(config: Settings) -> dict[str, Any]:
    """Returns all settings of a configuration by name; arrays as lists.

    Args:
        config: The configuration.
    """
    values = config.to_dict().items()
    return {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values}


def beside(weights: str | os.PathLike) -> Path:
    """Returns the path of the recipe that belongs to a weights file standing alone."""
    return Path(weights).with_name(f"{Path(weights).stem}.{RECIPE_FILE}")
