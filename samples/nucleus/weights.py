"""Where weights are, and which configuration a weights file was trained with.

A training run writes `recipe.json` into its log folder: the preset and the settings that differ from it. Weights
that are shipped alone have it beside them under their own name (`nucleus_small.h5`, `nucleus_small.recipe.json`). So
`--weights` is enough to detect with the network that was trained.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from trainkit.files import write_text

DOWNLOADABLE = ("coco", "imagenet")
_RECIPE = "recipe.json"
_SHIPPED = "nucleus_*.h5"


class WeightsNotFoundError(ValueError):
    """No weights are where they were looked for."""


@dataclass(frozen=True)
class Recipe:
    """The configuration of a weights file.

    Attributes:
        preset: A name in `nucleus.presets.PRESETS`.
        settings: Attribute name -> value, on top of the preset; as `Config.update` takes them.
    """

    preset: str = "lineage"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: str | os.PathLike) -> None:
        """Writes the recipe of a training run into its log folder.

        Args:
            folder: The log folder.

        Raises:
            OSError: The file cannot be written.
        """
        self._write(Path(folder) / _RECIPE)

    def save_beside(self, weights: str | os.PathLike) -> None:
        """Writes the recipe of weights that stand alone beside their file.

        Args:
            weights: The weights file.

        Raises:
            OSError: The file cannot be written.
        """
        self._write(Path(weights).with_name(f"{Path(weights).stem}.{_RECIPE}"))

    def _write(self, path: Path) -> None:
        write_text(path, json.dumps(asdict(self), indent=2) + "\n")


def find_recipe(weights: str | os.PathLike) -> Recipe | None:
    """Returns the recipe beside a weights file, or None if there is none.

    Args:
        weights: The weights file.

    Raises:
        ValueError: The recipe cannot be read; the message names the file.
    """
    weights = Path(weights)
    for path in (weights.with_name(f"{weights.stem}.{_RECIPE}"), weights.parent / _RECIPE):
        if path.is_file():
            return _read_recipe(path)
    return None


def shipped_weights() -> Path:
    """Returns the trained weights that come with the project, in the checkout or in the installed package.

    Raises:
        WeightsNotFoundError: There are none, or several to choose from.
    """
    folder = _shipped_folder()
    found = sorted(folder.glob(_SHIPPED))
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise WeightsNotFoundError(
            f"{folder}: one shipped {_SHIPPED} is the default, found {names}. Name yours: --weights=PATH."
        )
    return found[0]


def existing_file(path: str | os.PathLike) -> Path:
    """Returns the path of a weights file that is there.

    Raises:
        WeightsNotFoundError: It is not.
    """
    if not Path(path).is_file():
        raise WeightsNotFoundError(f"{path}: no such weights file.")
    return Path(path)


def _shipped_folder() -> Path:
    checkout = Path(__file__).resolve().parents[2] / "weights"
    return checkout if checkout.is_dir() else Path(str(resources.files("nucleus_weights")))


def _read_recipe(path: Path) -> Recipe:
    try:
        return Recipe(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: no recipe of a training run ({error}).") from error
