"""Where weights are, and which configuration a weights file was trained with.

A training run writes `recipe.json` into its log folder: the model, the preset and the settings that differ from it.
Weights that are shipped alone have it beside them under their own name (`nucleus_small.h5`,
`nucleus_small.recipe.json`). So `--weights` is enough to detect with the network that was trained.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from nucleus.models import DEFAULT_MODEL, MODELS
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
        preset: A name in the model's presets.
        settings: Attribute name -> value, on top of the preset; as `Settings.update` takes them.
        model: A name in `nucleus.models.MODELS`.
    """

    preset: str = MODELS[DEFAULT_MODEL].default_preset
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: str = DEFAULT_MODEL

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


def choose_recipe(found: Recipe | None, model: str | None = None, preset: str | None = None) -> Recipe:
    """Returns the configuration to start from.

    Args:
        found: That of the weights, if they have one.
        model: The model that was asked for, if one was.
        preset: The preset that was asked for, if one was; the weights' own settings do not count then.

    Returns:
        The weights' own recipe unless something else was asked for. A preset without a model is taken from the
        weights' model, else from the first model that has one of that name.

    Raises:
        ValueError: The weights are another model's, or the model has no such preset.
    """
    if model and found and found.model != model:
        raise ValueError(f"The weights are those of a {found.model}. Received: --model={model}")
    if preset is None:
        return found or Recipe(MODELS[model or DEFAULT_MODEL].default_preset, model=model or DEFAULT_MODEL)
    candidates = [name for name, kind in MODELS.items() if preset in kind.presets]
    wanted = model or (found.model if found and found.model in candidates else None)
    if wanted and wanted not in candidates:
        raise ValueError(f"{wanted} has no preset {preset!r}. Known: {', '.join(MODELS[wanted].presets)}.")
    return Recipe(preset, model=wanted or candidates[0])


def shipped_weights(model: str = DEFAULT_MODEL) -> Path:
    """Returns the trained weights that come with the project, in the checkout or in the installed package.

    Args:
        model: A name in `nucleus.models.MODELS`; weights of other models do not count.

    Raises:
        WeightsNotFoundError: There are none, or several of which none is called nucleus_<model>.h5.
    """
    folder = _shipped_folder()
    found = [path for path in sorted(folder.glob(_SHIPPED)) if (find_recipe(path) or Recipe()).model == model]
    if len(found) > 1:
        found = [path for path in found if path.stem == f"nucleus_{model}"] or found
    if len(found) != 1:
        names = ", ".join(path.name for path in found) or "none"
        raise WeightsNotFoundError(
            f"{folder}: one shipped {_SHIPPED} of a {model}, or that called nucleus_{model}.h5, is the default, found "
            f"{names}. Name yours: --weights=PATH."
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
        recipe = Recipe(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: no recipe of a training run ({error}).") from error
    if recipe.model not in MODELS:
        raise ValueError(f"{path}: no recipe of a training run (unknown model {recipe.model!r}).")
    return recipe
