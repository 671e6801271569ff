"""`load_model`, the one door to every kind of nucleus model, and `resolve`, which decides what a source means."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from nucleus.ensemble.ensemble_model import EnsembleModel
from nucleus.ensemble.fusion.model import FusionModel
from nucleus.models.base import NucleusModel
from nucleus.models.classical.model import ClassicalModel
from nucleus.models.lazy_prediction import predict_arrays
from nucleus.models.onnx import exported_beside, load_exported
from nucleus.models.recipe import Recipe
from nucleus.models.registry import MODELS, NETWORKS, ModelConfig, detection_config
from nucleus.models.scale import with_scale
from nucleus.models.unet import UNetModel
from nucleus.models.weights import (
    LAST,
    SHIPPED,
    WITHOUT_KERAS,
    WeightsNotFoundError,
    choose_recipe,
    existing_file,
    find_recipe,
    last_weights,
    read_recipe,
    shipped_default,
    shipped_weights,
)
from nucleus.quiet import import_keras
from trainkit.onnx_files import SUFFIX as ONNX_SUFFIX

# Suffixes of files that hold the configuration too: of all models but networks, and of a whole U-Net.
_JSON, _WHOLE = ".json", ".keras"


def load_model(
    source: str | os.PathLike | None = None,
    config: ModelConfig | None = None,
    *,
    model: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    model_dir: str | os.PathLike = "logs",
) -> NucleusModel:
    """Returns a model that finds nuclei.

    `--weights` of the commands takes the same sources, by the same rules.

    Args:
        source: None or "shipped" for the shipped default; a name: "mask_rcnn" or "unet" for the shipped weights of that
            kind, the name of a shipped file such as "nucleus_light", "last" for the last checkpoint in `model_dir`, or
            "classical", "ensemble" or "fusion", with or without "/PRESET" behind it (the latter two are then to be
            fitted); a file (`.h5` with its recipe beside it, `.keras` of a U-Net, `.onnx` of an exported network,
            `.json` of a classical model, an ensemble or a fusion); or the folder of a training run, whose best weights
            are taken, else its last checkpoint. A name comes before a file or folder of the same name.
        config: Configuration of the detection; by default that of the recipe. Such a model cannot be fine-tuned unless
            a recipe is found too. Not allowed with model, preset or settings, nor for a `.keras`, `.onnx` or `.json`
            file, which holds its own.
        model: Kind of the model, in `nucleus.models.registry.MODELS`, with its default preset; needed only for weights
            without a recipe.
        preset: Name of a preset that replaces the recipe's, or stands in for a missing recipe.
        settings: Attribute name -> value, on top of the recipe's, such as `{"DETECTION_NMS_THRESHOLD": 0.2}`.
        model_dir: Parent folder of the training runs; nothing is written before training.

    Returns:
        The model, with the test-time augmentation and the tiles that its settings ask for. A network is one in Keras,
        which can learn, unless the file is an `.onnx`; the members of an ensemble or a fusion, which only predict, are
        the exported networks beside their weights where there are some, see `nucleus.models.onnx.exported_beside`.

    Raises:
        ValueError: There is no such model or file, a weights file has no recipe and neither model, preset nor config
            is given, the file belongs to another network, a setting cannot be used, or arguments contradict each other.
        FileNotFoundError: The source is "last" and there is no run with a checkpoint.

    Examples:
        >>> model = load_model("classical/watershed", settings={"MIN_AREA": 100})
        >>> model.config.MIN_AREA
        100
    """
    return resolve(source, config, model=model, preset=preset, settings=settings, model_dir=model_dir).load(model_dir)


@dataclass(frozen=True)
class ChosenModel:
    """A model that was decided on and is not built yet.

    Attributes:
        path: Weights file of a network (`.h5`), whole U-Net (`.keras`), exported network (`.onnx`), or file of a
            classical model, an ensemble or a fusion (`.json`); None for a model without a file.
        recipe: Recipe with the preset and the settings asked for; None where a `.keras` file or a configuration alone
            makes the model.
        config: Configuration of the detection.
    """

    path: Path | None
    recipe: Recipe | None
    config: ModelConfig

    @property
    def kind(self) -> str:
        """Kind of the model, a name in `nucleus.models.registry.MODELS`."""
        return self.config.model_kind

    def fastest(self) -> ChosenModel:
        """Returns the same model as the file beside the weights that finds nuclei sooner, or itself.

        See `nucleus.models.onnx.exported_beside`. The nuclei are the same within the rounding of float32.

        Raises:
            OnnxFileError: The file beside the weights is damaged.
        """
        exported = exported_beside(self.path, self.config)
        return self if exported is None else replace(self, path=exported)

    def load(self, model_dir: str | os.PathLike = "logs") -> NucleusModel:
        """Builds the model with the test-time augmentation, the scale and the tiles of its configuration.

        Args:
            model_dir: Parent folder of the model's training runs; nothing is written before training.

        Raises:
            ValueError: The file cannot be read or belongs to another network.
        """
        model = with_scale(self.load_bare(model_dir))
        path = None if self.path is None else self.path.absolute()
        model.origin = partial(ChosenModel.load, replace(self, path=path), Path(model_dir).absolute())
        model.lazily = predict_arrays
        return model

    def load_bare(self, model_dir: str | os.PathLike = "logs") -> NucleusModel:
        """Builds the model itself, without what `load` wraps it in.

        Args:
            model_dir: Parent folder of the model's training runs; nothing is written before training.

        Raises:
            ValueError: The file cannot be read or belongs to another network.
        """
        if self.path is not None and self.path.suffix == ONNX_SUFFIX:
            return load_exported(self.path, read_recipe(self.path), self.config)
        if self.kind in NETWORKS:
            import_keras()
            if self.path.suffix == _WHOLE:
                return UNetModel.load_whole(self.path, self.config, model_dir)
            return NETWORKS[self.kind].load(self.path, self.recipe, self.config, model_dir)
        if self.kind == ClassicalModel.kind:
            preset = ClassicalModel.default_preset if self.recipe is None else self.recipe.preset
            return ClassicalModel(self.config, preset)
        combined = {model.kind: model for model in (EnsembleModel, FusionModel)}[self.kind]
        if self.path is None:
            return combined.begin(self.config, load_member)
        return combined.load(self.path, load_member, self.config)


def load_member(source: str | os.PathLike, settings: Mapping[str, Any] | None = None) -> NucleusModel:
    """Returns a member of an ensemble or a fusion: `load_model`, by the file that finds nuclei sooner.

    Members only predict, so that an exported network does for them; see `ChosenModel.fastest`.

    Args:
        source: Name, file or folder.
        settings: Attribute name -> value, on top of the recipe's.

    Raises:
        ValueError: See `load_model`.
    """
    return resolve(source, settings=settings).fastest().load()


def resolve(
    source: str | os.PathLike | None = None,
    config: ModelConfig | None = None,
    *,
    model: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    model_dir: str | os.PathLike = "logs",
) -> ChosenModel:
    """Decides which model a source and options mean; `load_model` and the commands build what this returns.

    Without a source, it is the shipped weights of the kind that model, preset or config asks for, a classical method,
    or an ensemble or a fusion that is to be fitted; without any of these the shipped default, a fitted fusion.

    Args:
        source: Name, file or folder; see `load_model`, also for the other arguments.
        config: Configuration of the detection.
        model: Kind of the model.
        preset: Name of a preset.
        settings: Attribute name -> value or text.
        model_dir: Parent folder of the training runs.

    Raises:
        ValueError: See `load_model`.
        FileNotFoundError: The source is "last" and there is no run with a checkpoint.
    """
    if config is not None and (model or preset or settings):
        raise ValueError("A configuration excludes model, preset and settings. Received: both.")
    name, settings = None if source is None else os.fspath(source), dict(settings or {})
    kind, _, named_preset = (name or "").partition("/")
    if kind in MODELS and kind not in NETWORKS:
        if named_preset and (preset or config is not None):
            raise ValueError(f"{name} names the preset. Received: preset=... or config=... too.")
        if model not in (None, kind):
            raise ValueError(f"{name} names a {kind}. Received: model={model} too.")
        return _without_file(kind, named_preset or preset, config, settings)
    asked = _asked_kind(config, model, preset)
    suffix = Path(name or "").suffix
    if asked is not None and asked not in NETWORKS and suffix != _JSON:
        if name is not None:
            raise ValueError(f"{asked} has no weights. Received: {name}")
        return _without_file(asked, preset, config, settings)
    path = _find_file(name, asked, model, settings.get("NAME"), model_dir)
    if path.suffix in (*WITHOUT_KERAS, _WHOLE):
        if preset or config is not None:
            raise ValueError(
                f"{path}: holds its configuration: change it with settings=... Received: preset or config."
            )
        return _from_whole(path, model, settings) if path.suffix == _WHOLE else _from_recipe(path, model, settings)
    return _from_weights(path, config, model, preset, settings)


def _asked_kind(config: ModelConfig | None, model: str | None, preset: str | None) -> str | None:
    """Returns the kind of model that the arguments besides the source ask for; None if they ask for none."""
    if config is not None:
        return config.model_kind
    return choose_recipe(None, model, preset).model if model or preset else None


def _without_file(
    kind: str, preset: str | None, config: ModelConfig | None, settings: Mapping[str, Any]
) -> ChosenModel:
    """Returns a classical model, or an ensemble or a fusion that is to be fitted."""
    if config is not None:
        if config.model_kind != kind:
            raise ValueError(f"{kind} has other settings than {config.model_kind}. Received: config=... of that.")
        return ChosenModel(None, None, config)
    recipe = choose_recipe(None, kind, preset)
    return ChosenModel(None, recipe.with_settings(settings), detection_config(recipe, settings))


def _find_file(
    name: str | None, asked: str | None, model: str | None, run_name: str | None, model_dir: str | os.PathLike
) -> Path:
    """Returns the file that a source means, which may be the name of shipped weights, "last" or a run's folder."""
    if name is None or name == SHIPPED:
        return shipped_weights(asked) if asked else shipped_default()
    if name in NETWORKS:
        return shipped_weights(name)
    if name == LAST:
        return last_weights(model_dir, model, run_name)
    path = Path(name)
    if path.is_dir():
        return _weights_of_run(path)
    try:
        return existing_file(path)
    except WeightsNotFoundError as error:
        known = ", ".join((*MODELS, *(f"{kind}/PRESET" for kind in MODELS if kind not in NETWORKS)))
        raise WeightsNotFoundError(f"{error} It is no run's folder and no model either: {known}.") from None


def _weights_of_run(folder: Path) -> Path:
    """Returns the best weights in the folder of a training run, else its last checkpoint."""
    for network in NETWORKS.values():
        best = sorted(folder.glob(f"{network.run_files.prefix}_*_best.h5"))
        checkpoints = [file for file in folder.glob("*.h5") if network.run_files.run_of(file)]
        if best or checkpoints:
            return best[0] if best else max(checkpoints, key=lambda file: network.run_files.run_of(file).epoch)
    raise WeightsNotFoundError(f"{folder}: no weights of a training run are in this folder.")


def _from_recipe(path: Path, model: str | None, settings: Mapping[str, Any]) -> ChosenModel:
    """Returns the model of a file that holds its recipe: any but a network, or an exported one."""
    recipe = choose_recipe(read_recipe(path), model)
    if recipe.model in NETWORKS and path.suffix == _JSON:
        raise ValueError(f"{path}: the recipe of a {recipe.model}; name its weights file.")
    return ChosenModel(path, recipe.with_settings(settings), detection_config(recipe, settings))


def _from_whole(path: Path, model: str | None, settings: Mapping[str, Any]) -> ChosenModel:
    """Returns the U-Net of a `.keras` file."""
    if model not in (None, UNetModel.kind):
        raise ValueError(f"{path}: holds a {UNetModel.kind}. Received: model={model}")
    import_keras()
    return ChosenModel(path, None, UNetModel.whole_config(path, settings))


def _from_weights(
    path: Path, config: ModelConfig | None, model: str | None, preset: str | None, settings: Mapping[str, Any]
) -> ChosenModel:
    """Returns the network of a weights file, by the recipe beside it or by what is asked for."""
    found = find_recipe(path)
    if config is not None:
        if found is not None and found.model != config.model_kind:
            raise ValueError(
                f"{path}: the weights are those of a {found.model}, the configuration a {config.model_kind}."
            )
        return ChosenModel(path, found, config)
    if found is None and not (model or preset):
        raise ValueError(
            f"{path}: no recipe.json beside it names its network. Name it: preset=... or model=... (--preset or "
            "--model; weights of matterport's nucleus sample have the preset lineage), or config=..."
        )
    recipe = choose_recipe(found, model, preset)
    if recipe.model not in NETWORKS:
        raise ValueError(f"{recipe.model} has no weights. Received: {path}")
    return ChosenModel(path, recipe.with_settings(settings), detection_config(recipe, settings))
