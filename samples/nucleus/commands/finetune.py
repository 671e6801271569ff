"""`nucleus finetune`."""

from __future__ import annotations

import argparse
from pathlib import Path

from nucleus.commands import options, values
from nucleus.commands.arguments import image_source, output_folder
from nucleus.datasets.division import DEFAULT_FOLDS, POOL

SUMMARY = "train the shipped model further on your own images, and score it before and after"
_EPILOG = """\
examples:
  nucleus finetune my_set/
  nucleus finetune my_set/ --weights=nucleus_mask_rcnn --output=results/mine
  nucleus detect new_images/ --weights=results/mine/my_set.h5"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    command.epilog = _EPILOG
    command.add_argument(
        "dataset",
        type=Path,
        metavar="FOLDER",
        help="your images and their labels, such as images/a.tif with labels/a.tif, or any other layout",
    )
    options.add_reading(command)
    command.add_argument(
        "--weights",
        type=values.trained,
        default="shipped",
        metavar="{shipped,PATH}",
        help="trained weights to begin with (default: %(default)s)",
    )
    command.add_argument(
        "--subset", default=POOL, help="images to divide into trained on and held out (default: %(default)s)"
    )
    command.add_argument(
        "--folds",
        type=values.folds,
        metavar="{N,FILE}",
        help="number of folds, stratified by modality, of which the first is held out and not trained on, or a "
        f"folds.json (default: {DEFAULT_FOLDS})",
    )
    command.add_argument(
        "--seed", type=values.number, default=0, help="seed of the division and of the training (default: %(default)s)"
    )
    command.add_argument("--epochs", type=values.positive, help="number of epochs (default: those of STAGES, 6)")
    command.add_argument(
        "--steps",
        type=values.positive,
        help="training steps an epoch (default: the number of images to train on, at least 20 and at most 100)",
    )
    options.add_settings(command)
    options.add_output(command, "folder of the weights file, the report, the scores and the training")


def run(args: argparse.Namespace) -> int:
    """Fine-tunes a model; see `nucleus finetune --help`."""
    from nucleus.training.finetuning import finetune

    tuned = finetune(
        image_source(args),
        args.weights,
        output_folder(args, "finetune"),
        subset=args.subset,
        folds=args.folds,
        seed=args.seed,
        settings=dict(args.settings),
        steps=args.steps,
        epochs=args.epochs,
    )
    print(tuned)
    print(f"Report: {tuned.report}\nWeights: {tuned.path}\nUse them: nucleus detect IMAGES --weights={tuned.path}")
    return 0
