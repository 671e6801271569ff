"""Parsed options as the objects that the application works with."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from nucleus.datasets.source import ImageSource
from nucleus.images.decoding import NO_CHOICE, Planes
from nucleus.models.recipe import Recipe
from nucleus.models.registry import DEFAULT_MODEL
from nucleus.models.weights import choose_recipe, find_recipe, starting_weights, trained_weights


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


def model_weights(args: argparse.Namespace, default_model: str = DEFAULT_MODEL) -> Path | None:
    """Returns the weights file of --weights, --model and --preset; None for a model without weights."""
    return trained_weights(args.weights, args.logs, args.model, args.preset, _run_name(args), default_model)


def first_weights(args: argparse.Namespace) -> Path | None:
    """Returns the file that a training begins with by --weights; None for random or published weights."""
    return starting_weights(args.weights, args.logs, args.model, _run_name(args))


def base_recipe(args: argparse.Namespace, weights: Path | None) -> Recipe:
    """Returns the recipe that --model and --preset ask for, else the weights' own."""
    return choose_recipe(None if weights is None else find_recipe(weights), args.model, args.preset)


def new_folder(command: str) -> Path:
    """Returns a folder for the results of a command that no run had before: its name holds the time."""
    return Path("results", "nucleus", f"{command}_{time.strftime('%Y%m%dT%H%M%S')}")


def _run_name(args: argparse.Namespace) -> str | None:
    return dict(args.settings).get("NAME")
