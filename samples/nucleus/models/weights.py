"""Lookup of weights files and their recipes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from nucleus.ensemble.ensemble_model import EnsembleModel
from nucleus.ensemble.fitted import Ensemble, file_format
from nucleus.ensemble.fusion.fused import Fusion
from nucleus.ensemble.fusion.model import FusionModel
from nucleus.models.network import PUBLISHED_WEIGHTS, RANDOM
from nucleus.models.onnx import read_recipe_note
from nucleus.models.recipe import LINEAGE_MODEL, RECIPE_FILE, Recipe, beside
from nucleus.models.registry import MODELS, NETWORKS, SHIPPED_MODEL, detection_config, last_checkpoint
from nucleus.models.settings import ApplicationSettings
from trainkit.onnx_files import SUFFIX as ONNX_SUFFIX
from trainkit.reading import read_json, reading

LAST = "last"
SHIPPED = "shipped"
# Suffixes of the files that hold their recipe themselves, and whose models need no Keras; members of an ensemble may.
WITHOUT_KERAS = (".json", ONNX_SUFFIX)


class WeightsNotFoundError(ValueError):
    """A weights file was not found."""


def find_recipe(weights: str | os.PathLike) -> Recipe | None:
    """Returns the recipe that stands beside a weights file or in its run's folder; None where there is none.

    Args:
        weights: The weights file; or a file that holds the recipe itself: `.json` of a model without weights, `.onnx`
            of an exported one.

    Raises:
        ValueError: The recipe cannot be read; the message names the file.
    """
    if Path(weights).suffix in WITHOUT_KERAS:
        return read_recipe(weights)
    candidates = (beside(weights), Path(weights).parent / RECIPE_FILE)
    path = next((path for path in candidates if path.is_file()), None)
    return None if path is None else read_recipe(path)


def read_recipe(path: str | os.PathLike) -> Recipe:
    """Reads a recipe.

    Args:
        path: JSON file of a recipe or of a fitted ensemble or fusion, or ONNX file of an exported model.

    Raises:
        ValueError: The file holds no recipe of a known model and preset, or a setting that cannot be used; the message
            names it.
    """
    if Path(path).suffix == ONNX_SUFFIX:
        return _checked_recipe(path, read_recipe_note(path), "no recipe of an exported model")
    combined = {Ensemble.format: EnsembleModel, Fusion.format: FusionModel}.get(file_format(path))
    if combined is not None:
        return combined.read_recipe(path)
    what = "no recipe of a training run"
    return _checked_recipe(path, read_json(path, what), what)


def _checked_recipe(path: str | os.PathLike, content: Mapping[str, Any], what: str) -> Recipe:
    """Returns the recipe with some content, read from a file; `what` begins the error where it is none."""
    with reading(path, what):
        recipe = Recipe(**content)
        if not isinstance(recipe.model, str) or recipe.model not in MODELS:
            raise ValueError(f"unknown model {recipe.model!r}")
        if not isinstance(recipe.settings, dict):
            raise ValueError(f"its settings must be an object. Received: {recipe.settings!r}")
        if not isinstance(recipe.preset, str):
            raise ValueError(f"its preset must be a name. Received: {recipe.preset!r}")
        # An unknown preset or setting, or a value out of its range, is the file's fault, and found before it is used.
        detection_config(recipe)
        return recipe


def choose_recipe(found: Recipe | None, model: str | None = None, preset: str | None = None) -> Recipe:
    """Returns the recipe to start from.

    Args:
        found: Recipe of the weights, if they have one.
        model: Name of the requested model; None for the weights' own.
        preset: Name of the requested preset, which replaces the weights' own settings; None to keep them.

    Returns:
        The weights' own recipe unless a model or preset is requested. A preset without a model is taken from the
        weights' model, else from the first model that has one of that name. Without any of the three, the lineage's.

    Raises:
        ValueError: The weights are another model's, or the model, or every model, lacks such a preset.
    """
    if model and found and found.model != model:
        raise ValueError(f"The weights are those of a {found.model}. Received: model={model}")
    if preset is None:
        wanted = model or LINEAGE_MODEL
        return found or Recipe(MODELS[wanted].default_preset, model=wanted)
    candidates = [name for name, kind in MODELS.items() if preset in kind.presets]
    wanted = model or (found.model if found and found.model in candidates else None)
    if wanted and wanted not in candidates:
        raise ValueError(f"{wanted} has no preset {preset!r}. Known: {', '.join(MODELS[wanted].presets)}.")
    if not candidates:
        raise ValueError(f"No model has a preset {preset!r}.")
    return Recipe(preset, model=wanted or candidates[0])


def shipped_weights(model: str | None = None) -> Path:
    """Returns the trained weights of a network that come with the project, in the checkout or in the installed package.

    Args:
        model: Name in `nucleus.models.registry.NETWORKS`, for the weights of that kind that are its `shipped`; by
            default `nucleus.models.registry.SHIPPED_MODEL`.

    Raises:
        WeightsNotFoundError: The file is missing.
    """
    kind = NETWORKS[model or SHIPPED_MODEL]
    path = _shipped_folder() / kind.shipped
    if not path.is_file():
        raise WeightsNotFoundError(
            f"{path}: the shipped weights of a {kind.kind} are missing. Name yours: --weights=PATH."
        )
    return path


def shipped_default() -> Path:
    """Returns the file of the shipped model that finds nuclei where no model is named: a fusion.

    Raises:
        WeightsNotFoundError: The file is missing.
    """
    path = _shipped_folder() / FusionModel.shipped
    if not path.is_file():
        raise WeightsNotFoundError(f"{path}: the shipped model is missing. Name yours: --weights=PATH.")
    return path


def existing_file(path: str | os.PathLike, model: str | None = None) -> Path:
    """Returns the path of a weights file, making sure that it exists.

    Args:
        path: The weights file; "shipped" for the shipped weights of a network; or the name of a shipped file without
            its suffix, such as "nucleus_mask_rcnn".
        model: Name in `nucleus.models.registry.NETWORKS` of the kind whose shipped weights "shipped" means; None for
            the default kind.

    Raises:
        WeightsNotFoundError: There is no such file.
    """
    if str(path) == SHIPPED:
        return shipped_weights(model if model in NETWORKS else None)
    if Path(path).is_file():
        return Path(path)
    folder = _shipped_folder()
    files = [*folder.glob("nucleus_*.h5"), *(file for file in folder.glob("nucleus_*.json") if "." not in file.stem)]
    shipped = {file.stem: file for file in files}
    if str(path) not in shipped:
        known = ", ".join((SHIPPED, *sorted(shipped)))
        raise WeightsNotFoundError(f"{path}: no such weights file. Shipped ones go by name: {known}.")
    return shipped[str(path)]


def is_shipped(path: str | os.PathLike) -> bool:
    """Returns True if a weights file is one of those that come with the project.

    Args:
        path: The weights file.
    """
    return Path(path).resolve().parent == _shipped_folder().resolve()


def last_weights(model_dir: str | os.PathLike, model: str | None = None, name: str | None = None) -> Path:
    """Returns the last checkpoint of the latest run.

    Args:
        model_dir: Folder of the runs.
        model: Name in `nucleus.models.registry.NETWORKS`; by default any.
        name: NAME of the run's configuration; by default the application's.

    Raises:
        FileNotFoundError: There is no run with a checkpoint.
    """
    return last_checkpoint(Path(model_dir), name or ApplicationSettings.NAME, [model] if model else NETWORKS)


def starting_weights(
    weights: str, model_dir: str | os.PathLike, model: str | None = None, name: str | None = None
) -> Path | None:
    """Returns the file of a training's initial weights; None for random or published weights.

    Args:
        weights: "none", "coco", "imagenet", "last", "shipped" or a file.
        model_dir: Folder of the runs.
        model: Name in `nucleus.models.registry.NETWORKS`; None for any.
        name: NAME of the run's configuration; None for the application's.

    Raises:
        FileNotFoundError: There is no run to resume.
        WeightsNotFoundError: There is no such file.
    """
    if weights in (*PUBLISHED_WEIGHTS, RANDOM):
        return None
    return last_weights(model_dir, model, name) if weights == LAST else existing_file(weights, model)


def _shipped_folder() -> Path:
    checkout = Path(__file__).resolve().parents[3] / "weights"
    return checkout if checkout.is_dir() else Path(str(resources.files("nucleus_weights")))
