"""`nucleus evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path

from nucleus.commands import options
from nucleus.commands.selection import inference_config, load_dataset, new_folder, trained_weights, weights_recipe
from nucleus.quiet import import_keras

SUMMARY = "score a model on images with masks"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds what it takes."""
    options.add_dataset(command)
    options.add_configuration(command)
    command.add_argument("--subset", default="val", help="images to score on (default: %(default)s)")
    command.add_argument(
        "--predictions",
        type=Path,
        metavar="FOLDER",
        help="score label images <ImageId>.png or .tif that were written before, such as <output>/labels of detect, "
        "instead of running a model",
    )
    options.add_trained(command)


def run(args: argparse.Namespace) -> int:
    """Scores a model on images with masks; see `nucleus evaluate --help`."""
    from nucleus.evaluation import evaluate, evaluate_predictions, save_scores, summarise

    if args.predictions is not None:
        scores = evaluate_predictions(args.predictions, load_dataset(args, args.subset))
    else:
        import_keras()
        from nucleus.inference import load_model

        weights = trained_weights(args)
        config = inference_config(weights_recipe(args, weights), args.settings)
        dataset = load_dataset(args, args.subset)
        scores = evaluate(load_model(weights, config, args.logs), dataset)
    output = args.output or new_folder("evaluate")
    save_scores(scores, output)
    print(summarise(scores).to_string(float_format="{:.3f}".format))
    print(f"Scores: {output}")
    return 0
