"""`nucleus train`."""

from __future__ import annotations

import argparse
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

from nucleus.commands import options
from nucleus.commands.division import (
    DEFAULT_COUNT,
    VALIDATION,
    choose_folds,
    refuse_folds_alone,
    require_unseen,
    warn_if_seen,
)
from nucleus.commands.selection import inference_config, load_dataset, start_weights, training_recipe
from nucleus.datasets.folds import FOLDS_FILE, Folds, find_folds, read_folds
from nucleus.datasets.layouts.base import DatasetError
from nucleus.models.config import make_config
from nucleus.models.registry import LEARNING_MODELS, MODELS
from nucleus.models.weights import find_recipe
from nucleus.quiet import import_keras

_log = logging.getLogger(__name__)

SUMMARY = "train a model, or go on with one"
_SAME_FOLD = "Hold out what they held out, or begin with other weights"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds what it takes."""
    options.add_dataset(command)
    options.add_configuration(command, LEARNING_MODELS)
    command.add_argument(
        "--weights",
        required=True,
        metavar="{coco,imagenet,last,none,PATH}",
        help="start from COCO (mask_rcnn only) or ImageNet weights (downloaded if needed), from the last checkpoint in "
        "--logs (goes on where it stopped), from random weights (trains all layers and batch normalisation), or from "
        "a file (of a U-Net, also of its encoder alone; the checkpoint of an epoch of a run goes on with that run)",
    )
    command.add_argument("--subset", default="train", help="images to train on (default: %(default)s)")
    command.add_argument("--val-subset", default="val", help="images to validate on (default: %(default)s)")
    command.add_argument(
        "--fold",
        type=options.positive,
        metavar="K",
        help="divide the images of both subsets into folds and validate on the K-th, the first being 1. A run that "
        "goes on keeps its own; of other weights, a fold that they were trained on is refused",
    )
    command.add_argument(
        "--folds",
        type=options.folds,
        metavar="{N,FILE}",
        help="with --fold: how many folds, stratified by modality and chosen by SEED, or the folds.json of another "
        f"run (default: {DEFAULT_COUNT})",
    )
    command.add_argument("--epochs", type=options.positive, help="epochs in all (default: those of STAGES)")
    command.add_argument(
        "--steps", type=options.positive, help="training steps an epoch, as --set STEPS_PER_EPOCH=STEPS"
    )


def run(args: argparse.Namespace) -> int:
    """Trains a model; see `nucleus train --help`."""
    import_keras()
    from nucleus.augmentation.mixing import Mixing
    from nucleus.models.inference import preprocessing
    from nucleus.training import training

    weights = start_weights(args)
    recipe = training_recipe(args, weights)
    config = make_config("training", recipe.preset, recipe.settings, recipe.model)
    detection_config = inference_config(recipe)

    folds = _folds(args, weights, recipe.model, config.SEED)
    train_images, val_images = _division(args, folds)
    load = partial(load_dataset, args, memory_limit=config.IMAGE_CACHE_MB * 2**20)
    train_dataset = load(*train_images, preprocessing=preprocessing(config), mixing=Mixing.of(config))
    val_dataset = load(*val_images, preprocessing=preprocessing(config))
    if weights is not None:
        warn_if_seen(weights, [info["id"] for info in val_dataset.image_info], VALIDATION)
    train_dataset.cache_labels()
    val_dataset.cache_labels()

    config.display()
    model = training.start(config, args.logs, args.weights, weights)
    recipe.save(model.log_dir)
    if folds is not None:
        folds.save(Path(model.log_dir) / FOLDS_FILE)
    training.train(
        model,
        train_dataset,
        val_dataset,
        inference_config=detection_config,
        evaluation_dataset=load(*val_images),
        epochs=args.epochs,
    )
    print(f"Trained {model.epoch} epochs: {model.log_dir}")
    return 0


def _folds(args: argparse.Namespace, weights: Path | None, model: str, seed: int) -> Folds | None:
    """Returns the folds that the training holds one out of, if it does; a run that goes on keeps its own."""
    refuse_folds_alone(args)
    run = None if weights is None else MODELS[model].run_files.run_of(weights)
    if run is not None:
        return _own_folds(args, run.folder, seed)
    if args.fold is None:
        return None
    folds = replace(choose_folds(args, _both_subsets(args), seed), held_out=args.fold)
    if weights is not None:
        require_unseen(weights, folds.split(args.fold)[1], _SAME_FOLD)
        if find_folds(weights) is None and find_recipe(weights) is not None:
            _log.warning("%s: whether it was trained on images of fold %d is not known", weights, args.fold)
    return folds


def _own_folds(args: argparse.Namespace, run: Path, seed: int) -> Folds | None:
    """Returns the folds of a run that goes on; refuses others, whose images to validate on it has learned."""
    path = run / FOLDS_FILE
    own = read_folds(path) if path.is_file() else None
    if args.fold is None:
        return own
    advice = "A run goes on with what it began with: leave --fold and --folds away"
    if own is None:
        raise DatasetError(f"{run}: this run held no fold out. Received: --fold={args.fold}. {advice}")
    asked = own if args.folds is None else choose_folds(args, _both_subsets(args), seed)
    if asked.split(args.fold) != own.split(own.held_out):
        of = "" if args.folds is None else f" --folds={args.folds}"
        raise DatasetError(
            f"{path}: this run held out fold {own.held_out} of {len(own.ids)}, other images than --fold={args.fold}"
            f"{of}. {advice}"
        )
    return own


def _division(args: argparse.Namespace, folds: Folds | None) -> tuple[tuple, tuple]:
    """Returns the subset, and the ids in it where there are folds, of the images to train and to validate on."""
    if folds is None:
        return (args.subset,), (args.val_subset,)
    train_ids, val_ids = folds.split(folds.held_out)
    return (_both_subsets(args), train_ids), (_both_subsets(args), val_ids)


def _both_subsets(args: argparse.Namespace) -> str:
    return "+".join(dict.fromkeys([args.subset, args.val_subset]))
