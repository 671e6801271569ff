"""`nucleus train`."""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

from nucleus.commands import options
from nucleus.commands.division import DEFAULT_COUNT, choose_folds
from nucleus.commands.selection import inference_config, load_dataset, start_weights, training_recipe
from nucleus.config import make_config
from nucleus.folds import FOLDS_FILE, Folds, read_folds
from nucleus.models import LEARNING_MODELS
from nucleus.quiet import import_keras

SUMMARY = "train a model, or go on with one"


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
        "a file (of a U-Net, also of its encoder alone)",
    )
    command.add_argument("--subset", default="train", help="images to train on (default: %(default)s)")
    command.add_argument("--val-subset", default="val", help="images to validate on (default: %(default)s)")
    command.add_argument(
        "--fold",
        type=options.positive,
        metavar="K",
        help="divide the images of both subsets into folds and validate on the K-th, the first being 1 (a run that "
        "goes on keeps its own)",
    )
    command.add_argument(
        "--folds",
        type=options.folds,
        default=DEFAULT_COUNT,
        metavar="{N,FILE}",
        help="how many folds, stratified by modality and chosen by SEED, or the folds.json of another run (default: "
        "%(default)s)",
    )
    command.add_argument("--epochs", type=options.positive, help="epochs in all (default: those of STAGES)")
    command.add_argument(
        "--steps", type=options.positive, help="training steps an epoch, as --set STEPS_PER_EPOCH=STEPS"
    )


def run(args: argparse.Namespace) -> int:
    """Trains a model; see `nucleus train --help`."""
    import_keras()
    from nucleus import training
    from nucleus.inference import preprocessing
    from nucleus.mixing import Mixing

    weights = start_weights(args)
    recipe = training_recipe(args, weights)
    config = make_config("training", recipe.preset, recipe.settings, recipe.model)
    detection_config = inference_config(recipe)

    folds = _folds(args, weights, config.SEED)
    train_images, val_images = _division(args, folds)
    load = partial(load_dataset, args, memory_limit=config.IMAGE_CACHE_MB * 2**20)
    train_dataset = load(*train_images, preprocessing=preprocessing(config), mixing=Mixing.of(config))
    val_dataset = load(*val_images, preprocessing=preprocessing(config))
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


def _folds(args: argparse.Namespace, weights: Path | None, seed: int) -> Folds | None:
    """Returns the folds that the training holds one out of, if it does; a resumed run goes on with its own."""
    own = None if weights is None or args.weights != "last" else weights.parent / FOLDS_FILE
    if args.fold is None:
        return read_folds(own) if own is not None and own.is_file() else None
    return replace(choose_folds(args, _both_subsets(args), seed), held_out=args.fold)


def _division(args: argparse.Namespace, folds: Folds | None) -> tuple[tuple, tuple]:
    """Returns the subset, and the ids in it where there are folds, of the images to train and to validate on."""
    if folds is None:
        return (args.subset,), (args.val_subset,)
    train_ids, val_ids = folds.split(folds.held_out)
    return (_both_subsets(args), train_ids), (_both_subsets(args), val_ids)


def _both_subsets(args: argparse.Namespace) -> str:
    return "+".join(dict.fromkeys([args.subset, args.val_subset]))
