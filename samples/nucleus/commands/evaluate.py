"""`nucleus evaluate`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from nucleus.commands import options
from nucleus.commands.arguments import output_folder, reading_config, wanted_images, wanted_model
from nucleus.datasets.layouts.base import UNKNOWN_MODALITY
from nucleus.models.loading import ChosenModel

if TYPE_CHECKING:
    from nucleus.prediction.cluster import Cluster
    from nucleus.prediction.predictions import Predictions

SUMMARY = "score models on images with masks, and compare them"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    options.add_dataset(command)
    options.add_configuration(command)
    options.add_scale(command)
    options.add_division(
        command,
        "images to score on (default: val, or the images that the run of the weights held out as a fold)",
        "score on",
    )
    options.add_repeated(
        command,
        "--predictions",
        _named_folder,
        "[NAME=]FOLDER",
        "score what detect wrote, or label images <ImageId>.png or .tif by any program, instead of running a "
        "model; repeat to compare several. With --weights or --model, a model is run as well",
    )
    options.add_iou(command, "precision, recall, F1, over- and under-segmentation")
    command.add_argument(
        "--report",
        type=Path,
        metavar="FOLDER",
        help="also write report.html, one page with tables, plots and pictures, and the pictures beside it",
    )
    options.add_trained(command)
    options.add_cluster(command)


def run(args: argparse.Namespace) -> int:
    """Scores models on images with masks; see `nucleus evaluate --help`."""
    from nucleus.evaluation.report.ranking import rank_sum_text
    from nucleus.evaluation.report.tables import console_table
    from nucleus.evaluation.saving import evaluate_all
    from nucleus.prediction.cluster import wanted_cluster
    from nucleus.prediction.folders import PredictionFolder
    from trainkit.files import require_writable

    output = output_folder(args, "evaluate")
    require_writable(args.report or output)
    runs = not args.predictions or args.weights is not None or args.model is not None
    if not runs and (args.workers or args.scheduler):
        raise ValueError("--workers and --scheduler are for a model that runs. Received: --predictions alone.")
    chosen = wanted_model(args, fastest=True) if runs else None
    if chosen is None:
        dataset, which = wanted_images(args, None, reading_config(args))
    else:
        dataset, which = wanted_images(args, chosen.path, chosen.config)
    predictions: list[Predictions] = [PredictionFolder(folder, name) for name, folder in args.predictions]
    # Missing predictions are reported before a model is loaded.
    for folder in predictions:
        folder.require(dataset)
    with wanted_cluster(args.workers, args.scheduler) as cluster:
        if chosen is not None:
            predictions.append(_running(chosen, cluster))
        scored = evaluate_all(
            predictions,
            dataset,
            output,
            threshold=args.iou,
            report=args.report,
            description=f"{which} of {args.dataset}",
        )
    print(console_table(scored.evaluations))
    if dataset.num_images > 1 and {info["modality"] for info in dataset.image_info} == {UNKNOWN_MODALITY}:
        print(f"No image's modality is known: `nucleus modality --dataset={args.dataset}` estimates them.")
    if scored.ranks is not None:
        print(f"\nAmong the published entries of the GlaS challenge:\n{rank_sum_text(scored.ranks)}\n")
    print(f"Scores: {output}")
    if scored.report is not None:
        print(f"Report: {scored.report}")
    return 0


def _running(chosen: ChosenModel, cluster: Cluster | None) -> Predictions:
    """Loads a model, and names it after its file or, where it has none, after its preset."""
    from nucleus.prediction.predictions import ModelPredictions
    from nucleus.prediction.remote import remote_model

    name = chosen.recipe.preset if chosen.path is None else chosen.path.stem
    model = chosen.load()
    return ModelPredictions(model, name, chosen.path or "", remote_model(cluster, model))


def _named_folder(text: str) -> tuple[str | None, Path]:
    """Reads FOLDER or NAME=FOLDER; a folder whose own name holds "=" is taken for one where it exists."""
    name, equals, folder = text.partition("=")
    if not equals or Path(text).is_dir():
        return None, Path(text)
    if not name.strip() or not folder:
        raise argparse.ArgumentTypeError(f"expected FOLDER or NAME=FOLDER, received {text!r}")
    return name.strip(), Path(folder)
