"""The kinds of models, with everything about each that needs no Keras."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from nucleus.ensemble.config import EnsembleConfig
from nucleus.ensemble.ensemble_model import EnsembleModel
from nucleus.ensemble.fusion.config import FusionConfig
from nucleus.ensemble.fusion.model import FusionModel
from nucleus.models.classical.config import ClassicalConfig
from nucleus.models.classical.model import ClassicalModel
from nucleus.models.mask_rcnn import MaskRCNNModel, NucleusConfig
from nucleus.models.network import NetworkModel
from nucleus.models.recipe import LINEAGE_MODEL, Recipe
from nucleus.models.settings import inference_settings
from nucleus.models.unet import NucleusUNetConfig, UNetModel
from trainkit.settings import SettingsError

ModelConfig = NucleusConfig | NucleusUNetConfig | ClassicalConfig | EnsembleConfig | FusionConfig
# Networks by name, and all models that commands offer. An entry is a class with its name, summary, presets and default
# preset, and for networks their checkpoints' names, published weights and shipped weights.
NETWORKS: dict[str, type[NetworkModel]] = {model.kind: model for model in (MaskRCNNModel, UNetModel)}
MODELS: dict[str, type[NetworkModel] | type[ClassicalModel] | type[EnsembleModel] | type[FusionModel]] = {
    **NETWORKS,
    **{model.kind: model for model in (ClassicalModel, EnsembleModel, FusionModel)},
}
# Kind of the network whose shipped weights are taken where no weights are named.
SHIPPED_MODEL = UNetModel.kind


def make_config(
    mode: Literal["training", "inference"],
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    model: str = LINEAGE_MODEL,
) -> ModelConfig:
    """Returns a configuration made of the defaults, a named preset and single settings, in this order.

    An inference configuration takes the preset's settings too, so that one preset describes one network. For Mask
    R-CNN the batch size stays one image, and a training that crops windows still detects on whole images; a U-Net
    for inference begins with no weights, not even its encoder's.

    Args:
        mode: "training" or "inference".
        preset: Name in the model's presets, `MODELS[model].presets`; by default the model's own.
        settings: Attribute name -> value or text, see `Settings.update`.
        model: Name in `MODELS`; by default that of the lineage.

    Returns:
        A validated `NucleusConfig`, `NucleusInferenceConfig`, `NucleusUNetConfig`, `ClassicalConfig`,
        `EnsembleConfig` or `FusionConfig`.

    Raises:
        SettingsError: The model, the preset or an attribute is unknown, a value cannot be used, or the model has
            nothing to train.

    Examples:
        >>> make_config("inference", preset="small").CLAHE
        True
        >>> make_config("training", settings={"LEARNING_RATE": 0.01}, model="unet").LEARNING_RATE
        0.01
    """
    if model not in MODELS:
        raise SettingsError(f"Unknown model {model!r}. Known: {', '.join(MODELS)}.")
    kind = MODELS[model]
    preset = preset or kind.default_preset
    if preset not in kind.presets:
        raise SettingsError(f"Unknown preset {preset!r} of {model}. Known: {', '.join(kind.presets)}.")
    return kind.make_config(mode, preset, dict(settings or {}))


def detection_config(recipe: Recipe, settings: Mapping[str, Any] | None = None) -> ModelConfig:
    """Returns the detection configuration of a recipe.

    Args:
        recipe: Recipe of the weights.
        settings: Attribute name -> value, on top of the recipe's.

    Raises:
        SettingsError: A setting cannot be used.
    """
    changed = {**inference_settings(recipe.settings), **(settings or {})}
    return make_config("inference", recipe.preset, changed, recipe.model)


def last_checkpoint(model_dir: Path, name: str, models: Iterable[str] = tuple(NETWORKS)) -> Path:
    """Returns the last checkpoint of the latest run of any of some models.

    Args:
        model_dir: Folder of the runs.
        name: The configuration's NAME.
        models: Names in `NETWORKS`.

    Raises:
        FileNotFoundError: There is no run with a checkpoint.
    """
    found, missing = [], []
    for model in models:
        try:
            found.append(NETWORKS[model].run_files.last_checkpoint(model_dir, name))
        except FileNotFoundError as error:
            missing.append(str(error))
    if not found:
        raise FileNotFoundError("; ".join(missing))
    return max(found, key=lambda path: path.parent.name)
