"""`nucleus train`."""

from __future__ import annotations

import argparse

from nucleus.commands import options, values
from nucleus.commands.arguments import image_source, recorded_settings
from nucleus.datasets.division import DEFAULT_FOLDS
from nucleus.models.registry import NETWORKS

SUMMARY = "train a model, or resume a training"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    options.add_dataset(command)
    options.add_configuration(command, tuple(NETWORKS))
    command.add_argument(
        "--weights",
        required=True,
        metavar="{shipped,coco,imagenet,last,none,PATH}",
        help="start from the shipped weights, from COCO (mask_rcnn only) or ImageNet weights (downloaded if needed), "
        "from the last checkpoint in --logs (resumes that run), from random weights (trains all layers and batch "
        "normalisation), or from a file "
        "(of a U-Net, also of its encoder alone; the checkpoint of a run's epoch resumes that run)",
    )
    command.add_argument("--subset", default="train", help="images to train on (default: %(default)s)")
    command.add_argument("--val-subset", default="val", help="images to validate on (default: %(default)s)")
    command.add_argument(
        "--fold",
        type=values.positive,
        metavar="K",
        help="divide the images of both subsets into folds and validate on the K-th, from 1 on. A resumed run keeps "
        "its own folds; for other weights, a fold that they were trained on is refused",
    )
    command.add_argument(
        "--folds",
        type=values.folds,
        metavar="{N,FILE}",
        help="with --fold: number of folds, stratified by modality and divided by SEED, or the folds.json of another "
        f"run (default: {DEFAULT_FOLDS})",
    )
    command.add_argument("--epochs", type=values.positive, help="total number of epochs (default: those of STAGES)")
    command.add_argument(
        "--steps", type=values.positive, help="training steps an epoch, as --set STEPS_PER_EPOCH=STEPS"
    )


def run(args: argparse.Namespace) -> int:
    """Trains a model; see `nucleus train --help`."""
    from nucleus.training.train import train

    model = train(
        image_source(args),
        args.weights,
        model=args.model,
        preset=args.preset,
        settings=recorded_settings(args),
        subset=args.subset,
        val_subset=args.val_subset,
        fold=args.fold,
        folds=args.folds,
        steps=args.steps,
        epochs=args.epochs,
        model_dir=args.logs,
    )
    print(f"Finished epochs: {model.epoch}, in {model.log_dir}")
    return 0
