"""`nucleus train`."""

from __future__ import annotations

import argparse
from pathlib import Path

from nucleus.commands import options
from nucleus.commands.arguments import base_recipe, chosen_planes, first_weights, image_source
from nucleus.datasets.division import DEFAULT_FOLDS
from nucleus.datasets.folds import FOLDS_FILE
from nucleus.models.registry import NETWORKS, make_config
from nucleus.quiet import import_keras
from trainkit.files import require_writable

SUMMARY = "train a model, or resume a training"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    options.add_dataset(command)
    options.add_planes(command)
    options.add_configuration(command, tuple(NETWORKS))
    command.add_argument(
        "--weights",
        required=True,
        metavar="{coco,imagenet,last,none,PATH}",
        help="start from COCO (mask_rcnn only) or ImageNet weights (downloaded if needed), from the last checkpoint in "
        "--logs (resumes that run), from random weights (trains all layers and batch normalisation), or from a file "
        "(of a U-Net, also of its encoder alone; the checkpoint of a run's epoch resumes that run)",
    )
    command.add_argument("--subset", default="train", help="images to train on (default: %(default)s)")
    command.add_argument("--val-subset", default="val", help="images to validate on (default: %(default)s)")
    command.add_argument(
        "--fold",
        type=options.positive,
        metavar="K",
        help="divide the images of both subsets into folds and validate on the K-th, from 1 on. A resumed run keeps "
        "its own folds; for other weights, a fold that they were trained on is refused",
    )
    command.add_argument(
        "--folds",
        type=options.folds,
        metavar="{N,FILE}",
        help="with --fold: number of folds, stratified by modality and divided by SEED, or the folds.json of another "
        f"run (default: {DEFAULT_FOLDS})",
    )
    command.add_argument("--epochs", type=options.positive, help="total number of epochs (default: those of STAGES)")
    command.add_argument(
        "--steps", type=options.positive, help="training steps an epoch, as --set STEPS_PER_EPOCH=STEPS"
    )


def run(args: argparse.Namespace) -> int:
    """Trains a model; see `nucleus train --help`."""
    require_writable(args.logs)
    import_keras()
    from nucleus.training.division import TrainingImages
    from nucleus.training.recipes import training_recipe
    from nucleus.training.validation import validation_callbacks

    weights = first_weights(args)
    recipe = training_recipe(base_recipe(args, weights), args.weights, dict(args.settings), args.steps)
    config = make_config("training", recipe.preset, recipe.settings, recipe.model)
    source = image_source(args, memory_limit=config.IMAGE_CACHE_MB * 2**20, planes=chosen_planes(args))
    images = TrainingImages(source, args.subset, args.val_subset, args.fold, args.folds)
    folds = images.divide(weights, recipe.model, config.SEED)
    train, val = images.load(folds, weights)

    config.display()
    model = NETWORKS[recipe.model].begin(recipe, args.logs, args.weights, weights)
    recipe.save(model.log_dir)
    if folds is not None:
        folds.save(Path(model.log_dir) / FOLDS_FILE)
    model.fit(train, val, epochs=args.epochs, callbacks=validation_callbacks(model, val))
    print(f"Trained {model.epoch} epochs: {model.log_dir}")
    return 0
