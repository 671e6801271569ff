"""`load_model`, which returns any kind of nucleus model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nucleus.models.base import NucleusModel
from nucleus.models.classical.model import ClassicalModel
from nucleus.models.recipe import Recipe
from nucleus.models.registry import MODELS, NETWORKS, ModelConfig, detection_config
from nucleus.models.scale import with_scale
from nucleus.models.unet import UNetModel
from nucleus.models.weights import (
    WeightsNotFoundError,
    choose_recipe,
    existing_file,
    find_recipe,
    read_recipe,
    shipped_weights,
)
from nucleus.quiet import import_keras


def load_model(
    source: str | os.PathLike | None = None,
    config: ModelConfig | None = None,
    *,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    model_dir: str | os.PathLike = "logs",
) -> NucleusModel:
    """Returns a model that finds nuclei.

    Args:
        source: None for the shipped default; a name: "mask_rcnn" or "unet" for the shipped weights of that kind, the
            name of a shipped file such as "nucleus_small", "classical" or "classical/PRESET"; a file (`.h5` with its
            recipe beside it, `.keras` of a U-Net, `.json` of a classical model or an ensemble); or the folder of a
            training run, whose best weights are taken, else its last checkpoint. A name comes before a file or folder
            of the same name.
        config: Configuration of the detection; by default that of the recipe. Such a model cannot be fine-tuned unless
            a recipe is found too. Not allowed with preset or settings, nor for a `.keras` or `.json` file, which holds
            its own.
        preset: Name of a preset that replaces the recipe's, or stands in for a missing recipe.
        settings: Attribute name -> value, on top of the recipe's, such as `{"DETECTION_NMS_THRESHOLD": 0.2}`.
        model_dir: Parent folder of the model's training runs; nothing is written before training.

    Returns:
        The model, with the test-time augmentation and the tiles that its settings ask for.

    Raises:
        ValueError: There is no such model or file, the file belongs to another network, a setting cannot be used, or
            arguments contradict each other.

    Examples:
        >>> model = load_model("classical/watershed", settings={"MIN_AREA": 100})
        >>> model.config.MIN_AREA
        100
    """
    if config is not None and (preset or settings):
        raise ValueError("A configuration excludes preset and settings. Received: both.")
    name = None if source is None else os.fspath(source)
    if name is None or name in NETWORKS:
        shipped = shipped_weights(name)
        return load_model(shipped, config, preset=preset, settings=settings, model_dir=model_dir)
    kind, _, named_preset = name.partition("/")
    if kind == ClassicalModel.kind:
        if named_preset and (preset or config is not None):
            raise ValueError(f"{name} names the preset. Received: preset=... or config=... too.")
        return classical_model(named_preset or preset, config, settings)
    path = _weights_file(Path(name))
    if path.suffix in (".json", ".keras") and (preset or config is not None):
        raise ValueError(f"{path}: holds its configuration: change it with settings=... Received: preset or config.")
    if path.suffix == ".json":
        return _read_json(path, settings)
    import_keras()
    if path.suffix == ".keras":
        model = UNetModel.load_whole(path, model_dir)
        model.config.update(dict(settings or {}))
        return with_scale(model)
    if config is None:
        recipe = choose_recipe(_require_recipe(path, preset), None, preset)
        config = detection_config(recipe, settings)
        recipe = recipe.with_settings(settings or {})
    else:
        recipe = find_recipe(path)
    if config.model_kind not in NETWORKS:
        raise ValueError(f"{path}: a {config.model_kind} has no weights.")
    if recipe is not None and recipe.model != config.model_kind:
        raise ValueError(f"{path}: the weights are those of a {recipe.model}, the configuration a {config.model_kind}.")
    return with_scale(NETWORKS[config.model_kind].load(path, recipe, config, model_dir))


def model_of(weights: Path | None, config: ModelConfig) -> NucleusModel:
    """Returns the model of a configuration, with the test-time augmentation and the tiles that it asks for.

    Args:
        weights: Weights file of a network; None for a classical model.
        config: Configuration of the detection.

    Raises:
        ValueError: The file is another network's, or a network has no file.
    """
    return with_scale(bare_model(weights, config))


def bare_model(weights: Path | None, config: ModelConfig) -> NucleusModel:
    """Returns the model of a configuration without test-time augmentation and tiles; see `model_of`."""
    if config.model_kind in NETWORKS:
        if weights is None:
            raise ValueError(f"{config.model_kind} needs weights. Received: None")
        recipe = find_recipe(weights)
        return NETWORKS[config.model_kind].load(weights, recipe, config)
    if weights is not None:
        raise ValueError(f"{config.model_kind} has no weights. Received: {weights}")
    return ClassicalModel(config)


def classical_model(
    preset: str | None = None, config: ModelConfig | None = None, settings: Mapping[str, Any] | None = None
) -> NucleusModel:
    """Returns a classical model, with the test-time augmentation and the tiles of its settings.

    Args:
        preset: Name in `nucleus.models.classical.presets.PRESETS`; by default "watershed".
        config: Configuration that replaces preset and settings.
        settings: Attribute name -> value, on top of the preset.

    Raises:
        SettingsError: The preset or a setting is unknown.
    """
    preset = preset or ClassicalModel.default_preset
    if preset not in ClassicalModel.presets:
        raise ValueError(f"classical has no preset {preset!r}. Known: {', '.join(ClassicalModel.presets)}.")
    return with_scale(ClassicalModel(config, preset, settings))


def _weights_file(path: Path) -> Path:
    """Returns the weights file that a path means: itself, or that of a run's folder."""
    if path.is_dir():
        for network in NETWORKS.values():
            best = sorted(path.glob(f"{network.run_files.prefix}_*_best.h5"))
            checkpoints = [file for file in path.glob("*.h5") if network.run_files.run_of(file)]
            if best or checkpoints:
                return best[0] if best else max(checkpoints, key=lambda file: network.run_files.run_of(file).epoch)
        raise WeightsNotFoundError(f"{path}: no weights of a training run are in this folder.")
    try:
        return existing_file(path)
    except WeightsNotFoundError as error:
        known = ", ".join((*MODELS, f"{ClassicalModel.kind}/PRESET"))
        raise WeightsNotFoundError(f"{error} It is no run's folder and no model either: {known}.") from None


def _read_json(path: Path, settings: Mapping[str, Any] | None) -> NucleusModel:
    from nucleus.ensemble.combined import EnsembleModel
    from nucleus.ensemble.model import is_ensemble

    if is_ensemble(path):
        if settings:
            raise ValueError(f"{path}: an ensemble has no settings of its own; its members' weights have.")
        return EnsembleModel.load(path, load_model)
    recipe = read_recipe(path)
    if recipe.model != ClassicalModel.kind:
        raise ValueError(f"{path}: the recipe of a {recipe.model}; name its weights file.")
    return classical_model(recipe.preset, settings={**recipe.settings, **(settings or {})})


def _require_recipe(path: Path, preset: str | None) -> Recipe | None:
    """Returns the recipe of a weights file; None where there is none and a preset stands for it."""
    found = find_recipe(path)
    if found is None and preset is None:
        raise ValueError(f"{path}: no recipe.json beside it names its network. Name it: preset=..., or config=...")
    return found
