"""Parsed options as the objects that the application works with."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.division import select_images
from nucleus.datasets.source import ImageSource
from nucleus.images.decoding import NO_CHOICE, Planes
from nucleus.models.recipe import Recipe
from nucleus.models.registry import ModelConfig, detection_config
from nucleus.models.weights import WITHOUT_KERAS, choose_recipe, find_recipe, trained_weights
from nucleus.quiet import import_keras


def image_source(
    args: argparse.Namespace,
    memory_limit: int | None = None,
    planes: Planes = NO_CHOICE,
    pixel_size: float | None = None,
) -> ImageSource:
    """Returns the data set of --dataset, --layout and --classes."""
    return ImageSource(args.dataset, args.layout, args.classes, memory_limit, planes, pixel_size)


def chosen_planes(args: argparse.Namespace) -> Planes:
    """Returns the choice of --channel, --plane, --project and --frame."""
    return Planes(args.channel, args.plane, args.project, args.frame)


def base_recipe(args: argparse.Namespace, weights: Path | None) -> Recipe:
    """Returns the recipe that --model and --preset ask for, else the weights' own."""
    return choose_recipe(None if weights is None else find_recipe(weights), args.model, args.preset)


def wanted_config(args: argparse.Namespace, weights: Path | None) -> ModelConfig:
    """Returns the configuration with which a model detects, --set included."""
    return detection_config(base_recipe(args, weights), dict(args.settings))


def wanted_model(args: argparse.Namespace) -> tuple[Path | None, ModelConfig]:
    """Returns the weights file of the model that is run, None where it has none, and its configuration.

    Keras is imported where the model needs it.

    Args:
        args: The parsed options of `options.add_configuration` and `options.add_trained`.
    """
    weights = trained_weights(args.weights, args.logs, args.model, args.preset, _run_name(args))
    if weights is not None and weights.suffix not in WITHOUT_KERAS:
        import_keras()
    return weights, wanted_config(args, weights)


def wanted_images(
    args: argparse.Namespace, weights: Path | None, seed: int, pixel_size: float | None = None, **options: Any
) -> tuple[NucleusDataset, str]:
    """Reads the chosen planes of the images of --subset, --fold and --folds; returns them with their description.

    See `nucleus.datasets.division.select_images`.

    Args:
        args: The parsed options of `options.add_dataset`, `options.add_planes` and `options.add_division`.
        weights: Weights file of the model to run; None where it has none.
        seed: Seed of a division into folds.
        pixel_size: Side of a pixel in µm, for measurements; None for what each file says.
        **options: Further options of `select_images`.
    """
    chosen = {"subset": args.subset, "fold": args.fold, "folds": args.folds}
    source = image_source(args, planes=chosen_planes(args), pixel_size=pixel_size)
    return select_images(source, weights, seed=seed, **chosen, **options)


def new_folder(command: str) -> Path:
    """Returns a new folder for the results of a command, named after the command and the time."""
    return Path("results", "nucleus", f"{command}_{time.strftime('%Y%m%dT%H%M%S')}")


def _run_name(args: argparse.Namespace) -> str | None:
    return dict(args.settings).get("NAME")
