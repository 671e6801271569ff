"""What a command's options choose: the images, the weights, the configuration and the folder of the results."""

from __future__ import annotations

import argparse
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nucleus.models.config import ApplicationSettings, ModelConfig, inference_settings, make_config
from nucleus.models.registry import DEFAULT_MODEL, LEARNING_MODELS, MODELS, last_checkpoint
from nucleus.models.weights import DOWNLOADABLE, Recipe, choose_recipe, existing_file, find_recipe, shipped_weights

if TYPE_CHECKING:
    from nucleus.augmentation.mixing import Mixing
    from nucleus.datasets.dataset import NucleusDataset


def load_dataset(
    args: argparse.Namespace,
    subset: str,
    only: Collection[str] | None = None,
    preprocessing=None,
    fit: int | None = None,
    mixing: Mixing | None = None,
    memory_limit: int | None = None,
    **options: Any,
) -> NucleusDataset:
    """Reads images of --dataset.

    Args:
        args: With `dataset`, `layout` and `classes`.
        subset: Which of its images; see `--subset`.
        only: Ids of those to keep; by default all.
        preprocessing: See `NucleusDataset`.
        fit: See `NucleusDataset`.
        mixing: See `NucleusDataset`.
        memory_limit: See `NucleusDataset`, whose own is taken by default.
        options: What else `NucleusDataset.load_nucleus` takes.

    Returns:
        The prepared `NucleusDataset`.

    Raises:
        DatasetError: An image is missing, or an id of `only`.
    """
    from nucleus.datasets.dataset import NucleusDataset

    limit = {} if memory_limit is None else {"memory_limit": memory_limit}
    dataset = NucleusDataset(preprocessing=preprocessing, fit=fit, mixing=mixing, **limit)
    dataset.load_nucleus(args.dataset, subset, layout=args.layout, classes=args.classes, **options)
    if only is not None:
        dataset.keep_images(only, f"{args.dataset}, {subset}")
    dataset.prepare()
    return dataset


def weights_recipe(args: argparse.Namespace, weights: Path | None) -> Recipe:
    """Returns the configuration to start from: what --model and --preset ask for, else the weights' own."""
    return choose_recipe(find_recipe(weights) if weights is not None else None, args.model, args.preset)


def inference_config(recipe: Recipe, settings: Sequence[tuple[str, str]] = ()) -> ModelConfig:
    """Returns the configuration that detects with what a recipe trained; `settings` are those of this command."""
    changed = {**inference_settings(recipe.settings), **dict(settings)}
    return make_config("inference", recipe.preset, changed, recipe.model)


def start_weights(args: argparse.Namespace) -> Path | None:
    """Returns the file that a training goes on from, if it does."""
    if args.weights in (*DOWNLOADABLE, "none"):
        return None
    return last_weights(args) if args.weights == "last" else existing_file(args.weights)


def training_recipe(args: argparse.Namespace, weights: Path | None) -> Recipe:
    """Returns the configuration of a training, --set and --steps included."""
    from nucleus.training.training import from_scratch_settings

    base = weights_recipe(args, weights)
    asked = dict(args.settings)
    if args.steps:
        asked["STEPS_PER_EPOCH"] = args.steps
    if args.weights == "none":
        config = make_config("training", base.preset, asked, base.model)
        asked = {**from_scratch_settings(config, asked), **asked}
    elif "ENCODER_WEIGHTS" in asked:
        raise ValueError(
            f"--weights={args.weights} says what all of the network begins with: ENCODER_WEIGHTS belongs to "
            f"--weights=none, or name its file as --weights=FILE"
        )
    return Recipe(base.preset, {**base.settings, **asked}, base.model)


def trained_weights(args: argparse.Namespace, default_model: str = DEFAULT_MODEL) -> Path | None:
    """Returns the weights file that --weights means; without it, the shipped one of --model or `default_model`.

    Returns:
        The file, or None if --model or --preset ask for a model that has no weights.

    Raises:
        ValueError: There is no such file, or the model has no weights and some are given.
    """
    model = choose_recipe(None, args.model, args.preset).model
    if not MODELS[model].learns:
        if args.weights is not None:
            raise ValueError(f"{model} has no weights. Received: --weights={args.weights}")
        return None
    if args.weights is None:
        return shipped_weights(args.model or default_model)
    return last_weights(args) if args.weights == "last" else existing_file(args.weights)


def last_weights(args: argparse.Namespace) -> Path:
    """Returns the last checkpoint in --logs, of --model if it is given."""
    name = dict(args.settings).get("NAME", ApplicationSettings.NAME)
    return last_checkpoint(args.logs, name, [args.model] if args.model else LEARNING_MODELS)


def new_folder(command: str) -> Path:
    """Returns a folder for the results of a command that no run had before: its name holds the time."""
    return Path("results", "nucleus", f"{command}_{time.strftime('%Y%m%dT%H%M%S')}")
