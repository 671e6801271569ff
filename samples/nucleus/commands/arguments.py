"""Parsed options as the objects that the application works with, and the report of inputs that failed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.division import select_images
from nucleus.datasets.source import ImageSource
from nucleus.ensemble.ensemble_model import EnsembleModel
from nucleus.ensemble.fusion.model import FusionModel
from nucleus.images.decoding import Planes
from nucleus.images.decoding.base import set_pixel_limit
from nucleus.models.loading import ChosenModel, resolve
from nucleus.models.registry import NETWORKS, SHIPPED_MODEL, ModelConfig, detection_config
from nucleus.models.settings import PredictionSettings
from nucleus.models.weights import SHIPPED, WITHOUT_KERAS, WeightsNotFoundError, choose_recipe
from nucleus.quiet import import_keras
from trainkit.files import require_writable


def image_source(
    args: argparse.Namespace, config: ModelConfig | None = None, pixel_size: float | None = None
) -> ImageSource:
    """Returns the data set of --dataset, --layout and --classes, of which the chosen planes are read.

    Args:
        args: The parsed options of `options.add_dataset`.
        config: Configuration of the model that is run or trained; see `chosen_planes`.
        pixel_size: Side of a pixel in µm, for measurements; None for what each file says.
    """
    planes = chosen_planes(args, config)
    return ImageSource(args.dataset, args.layout, args.classes, planes=planes, pixel_size=pixel_size)


def chosen_planes(args: argparse.Namespace, config: ModelConfig | None = None) -> Planes:
    """Returns the choice of `options.add_planes`, and sets the limit of pixels where one is given.

    Args:
        args: The parsed options.
        config: Configuration of the model that is run or trained, whose own channel is the default; None for none.
            An ensemble has none.
    """
    if args.max_pixels is not None:
        set_pixel_limit(args.max_pixels)
    planes = Planes(args.channel, args.plane, args.project, args.frame, args.scene)
    return planes.with_default(config.planes()) if isinstance(config, PredictionSettings) else planes


def recorded_settings(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings of --set, with the channel of --channel, which a training records.

    Args:
        args: The parsed options of `options.add_planes` and `options.add_configuration`.
    """
    return {**dict(args.settings), **channel_setting(args)}


def channel_setting(args: argparse.Namespace) -> dict[str, str]:
    """Returns the setting that records the channel of --channel; none where it is not given.

    Args:
        args: The parsed options of `options.add_planes`.

    Raises:
        ValueError: The name of a channel cannot be recorded.
    """
    channels = args.channel or ()
    unfit = next((name for name in channels if "|" in name or not name), None)
    if unfit is not None:
        raise ValueError(f"--channel: {unfit!r} cannot be recorded with a model. Give the channel's number.")
    return {"FILE_CHANNEL": "|".join(channels)} if channels else {}


def reading_config(args: argparse.Namespace) -> ModelConfig:
    """Returns the configuration of --model, --preset and --set where no model is run: how images are read and divided.

    Args:
        args: The parsed options of `options.add_configuration`.
    """
    return detection_config(choose_recipe(None, args.model, args.preset), dict(args.settings))


def wanted_model(args: argparse.Namespace, fastest: bool = False, network: bool = False) -> ChosenModel:
    """Returns the model of --weights, --model, --preset and --set, as `nucleus.load_model` takes them.

    Keras is imported where the model needs it.

    Args:
        args: The parsed options of `options.add_configuration` and `options.add_trained`.
        fastest: True to take the exported file beside the weights where it gives results sooner, see
            `ChosenModel.fastest`.
        network: True to take the shipped U-Net where no model is named, in place of the shipped default.

    Raises:
        WeightsNotFoundError: An ensemble or a fusion is asked for, and no file of a fitted one.
        ValueError: See `nucleus.load_model`.
    """
    unnamed = args.weights in (None, SHIPPED) and args.model is None and args.preset is None
    kind = SHIPPED_MODEL if network and unnamed else args.model
    chosen = resolve(args.weights, model=kind, preset=args.preset, settings=dict(args.settings), model_dir=args.logs)
    if chosen.kind == FusionModel.kind and chosen.path is None:
        raise WeightsNotFoundError(
            "A fusion is a file: name the shipped one, --weights=nucleus_fusion, or one that you fitted, "
            "--weights=FILE.json"
        )
    if chosen.kind == EnsembleModel.kind and chosen.path is None:
        raise WeightsNotFoundError(
            f"There is no shipped {chosen.kind}. Name the file of a fitted one: --weights=FILE.json"
        )
    if fastest:
        chosen = chosen.fastest()
    if chosen.kind in NETWORKS and chosen.path.suffix not in WITHOUT_KERAS:
        import_keras(plots=False)
    return chosen


def wanted_images(
    args: argparse.Namespace,
    weights: Path | None,
    config: ModelConfig,
    pixel_size: float | None = None,
    **options: Any,
) -> tuple[NucleusDataset, str]:
    """Reads the chosen planes of the images of --subset, --fold and --folds; returns them with their description.

    See `nucleus.datasets.division.select_images`.

    Args:
        args: The parsed options of `options.add_dataset` and `options.add_division`.
        weights: Weights file of the model to run; None where it has none.
        config: Configuration of that model, with the seed of a division into folds and the channel that is read.
        pixel_size: Side of a pixel in µm, for measurements; None for what each file says.
        **options: Further options of `select_images`.
    """
    chosen = {"subset": args.subset, "fold": args.fold, "folds": args.folds}
    return select_images(image_source(args, config, pixel_size), weights, seed=config.SEED, **chosen, **options)


def output_folder(args: argparse.Namespace, command: str) -> Path:
    """Returns the folder of --output, by default one named after the command and the time.

    It is found out before long work that files can be written there; nothing is created.

    Args:
        args: The parsed option of `options.add_output`.
        command: Name of the command.

    Raises:
        OSError: The folder cannot be written.
    """
    folder = args.output or Path("results", "nucleus", f"{command}_{time.strftime('%Y%m%dT%H%M%S')}")
    require_writable(folder)
    return folder


def report_failures(failures: Sequence[str]) -> int:
    """Lists the inputs that failed on stderr; returns the exit status."""
    for failure in failures:
        print(f"nucleus: error: {failure}", file=sys.stderr)
    return 1 if failures else 0
