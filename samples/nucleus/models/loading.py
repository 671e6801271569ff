"""`load_model`, which returns any kind of nucleus model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nucleus.ensemble.combined import EnsembleModel
from nucleus.models.base import NucleusModel
from nucleus.models.classical.model import ClassicalModel
from nucleus.models.onnx import OnnxModel
from nucleus.models.recipe import Recipe
from nucleus.models.registry import MODELS, NETWORKS, ModelConfig, detection_config, make_config
from nucleus.models.scale import with_scale
from nucleus.models.unet import UNetModel
from nucleus.models.weights import (
    SHIPPED,
    WITHOUT_KERAS,
    WeightsNotFoundError,
    choose_recipe,
    existing_file,
    find_recipe,
    read_recipe,
    shipped_weights,
)
from nucleus.quiet import import_keras
from trainkit.onnx_files import SUFFIX as ONNX_SUFFIX


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
        source: None or "shipped" for the shipped default; a name: "mask_rcnn" or "unet" for the shipped weights of that
            kind, the name of a shipped file such as "nucleus_small", or "classical" or "ensemble", with or without
            "/PRESET" behind it (an ensemble is then to be fitted); a file (`.h5` with its recipe beside it, `.keras` of
            a U-Net, `.onnx` of an exported one, `.json` of a classical model or an ensemble); or the folder of a
            training run, whose best weights are taken, else its last checkpoint. A name comes before a file or folder
            of the same name.
        config: Configuration of the detection; by default that of the recipe. Such a model cannot be fine-tuned unless
            a recipe is found too. Not allowed with preset or settings, nor for a `.keras`, `.onnx` or `.json` file,
            which holds its own.
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
    if name is None or name == SHIPPED or name in NETWORKS:
        shipped = shipped_weights(name if name in NETWORKS else None)
        return load_model(shipped, config, preset=preset, settings=settings, model_dir=model_dir)
    kind, _, named_preset = name.partition("/")
    if kind in MODELS and kind not in NETWORKS:
        if named_preset and (preset or config is not None):
            raise ValueError(f"{name} names the preset. Received: preset=... or config=... too.")
        return _new_model(kind, named_preset or preset, config, settings)
    path = _weights_file(Path(name))
    if path.suffix in (*WITHOUT_KERAS, ".keras") and (preset or config is not None):
        raise ValueError(f"{path}: holds its configuration: change it with settings=... Received: preset or config.")
    if path.suffix == ".json":
        return _read_json(path, read_recipe(path).with_settings(settings or {}))
    if path.suffix == ONNX_SUFFIX:
        recipe = read_recipe(path)
        return with_scale(OnnxModel(path, recipe, detection_config(recipe, settings)))
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
        weights: Weights file of a network, or file of an ensemble; of a classical model None, or its file.
        config: Configuration of the detection.

    Raises:
        ValueError: The file is another model's, or a network or an ensemble has no file.
    """
    return with_scale(bare_model(weights, config))


def bare_model(weights: Path | None, config: ModelConfig) -> NucleusModel:
    """Returns the model of a configuration without test-time augmentation and tiles; see `model_of`."""
    kind = config.model_kind
    if weights is None and kind != ClassicalModel.kind:
        raise ValueError(
            f"{kind} needs {'weights' if kind in NETWORKS else 'the file of a fitted one'}. Received: None"
        )
    if weights is not None and weights.suffix == ONNX_SUFFIX:
        return OnnxModel(weights, read_recipe(weights), config)
    if kind in NETWORKS:
        return NETWORKS[kind].load(weights, find_recipe(weights), config)
    if weights is not None and weights.suffix != ".json":
        raise ValueError(f"{kind} has no weights. Received: {weights}")
    return EnsembleModel.load(weights, load_model, config) if kind == EnsembleModel.kind else ClassicalModel(config)


def _new_model(
    kind: str, preset: str | None, config: ModelConfig | None, settings: Mapping[str, Any] | None
) -> NucleusModel:
    """Returns a classical model, or an ensemble that is not fitted, in its views and tiles."""
    preset = preset or MODELS[kind].default_preset
    if preset not in MODELS[kind].presets:
        raise ValueError(f"{kind} has no preset {preset!r}. Known: {', '.join(MODELS[kind].presets)}.")
    if config is None:
        config = make_config("inference", preset, settings, kind)
    elif config.model_kind != kind:
        raise ValueError(f"{kind} has other settings than {config.model_kind}. Received: config=... of that.")
    if kind == EnsembleModel.kind:
        return with_scale(EnsembleModel.begin(config, load_model))
    return with_scale(ClassicalModel(config, preset))


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
        known = ", ".join((*MODELS, *(f"{kind}/PRESET" for kind in MODELS if kind not in NETWORKS)))
        raise WeightsNotFoundError(f"{error} It is no run's folder and no model either: {known}.") from None


def _read_json(path: Path, recipe: Recipe) -> NucleusModel:
    """Returns the model of a JSON file, given its recipe with the wanted settings."""
    if recipe.model in NETWORKS:
        raise ValueError(f"{path}: the recipe of a {recipe.model}; name its weights file.")
    config = detection_config(recipe)
    if recipe.model == EnsembleModel.kind:
        return with_scale(EnsembleModel.load(path, load_model, config))
    return with_scale(ClassicalModel(config, recipe.preset))


def _require_recipe(path: Path, preset: str | None) -> Recipe | None:
    """Returns the recipe of a weights file; None where there is none and a preset stands for it."""
    found = find_recipe(path)
    if found is None and preset is None:
        raise ValueError(f"{path}: no recipe.json beside it names its network. Name it: preset=..., or config=...")
    return found
