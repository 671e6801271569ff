"""`nucleus evaluate`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nucleus.commands import options
from nucleus.commands.arguments import base_recipe, output_folder, wanted_config, wanted_images, wanted_model
from nucleus.datasets.layouts.base import UNKNOWN_MODALITY
from nucleus.models.registry import ModelConfig

if TYPE_CHECKING:
    from nucleus.prediction.predictions import Predictions

SUMMARY = "score models on images with masks, and compare them"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    options.add_dataset(command)
    options.add_planes(command)
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


def run(args: argparse.Namespace) -> int:
    """Scores models on images with masks; see `nucleus evaluate --help`."""
    from nucleus.evaluation.evaluation import evaluate_fully
    from nucleus.evaluation.report.ranking import CSV_FILE, rank_sum_csv, rank_sum_text, rank_sums
    from nucleus.evaluation.report.tables import console_table
    from nucleus.prediction.folders import PredictionFolder
    from nucleus.prediction.predictions import require_distinct_names
    from trainkit.files import require_writable, write_text

    output = output_folder(args, "evaluate")
    require_writable(args.report or output)
    runs = not args.predictions or args.weights is not None or args.model is not None
    weights, config = wanted_model(args) if runs else (None, wanted_config(args, None))
    dataset, which = wanted_images(args, weights, config.SEED)
    predictions: list[Predictions] = [PredictionFolder(folder, name) for name, folder in args.predictions]
    # Missing predictions are reported before a model runs for long.
    for folder in predictions:
        folder.require(dataset)
    if runs:
        predictions.append(_running(weights, config, args))
    require_distinct_names([each.name for each in predictions])
    evaluations = [evaluate_fully(each, dataset, args.iou) for each in predictions]
    ranks = rank_sums(evaluations)

    for evaluation, name in zip(evaluations, _folder_names([each.name for each in evaluations]), strict=True):
        evaluation.save(output / name if len(evaluations) > 1 else output)
    print(console_table(evaluations))
    if dataset.num_images > 1 and {info["modality"] for info in dataset.image_info} == {UNKNOWN_MODALITY}:
        print(f"No image's modality is known: `nucleus modality --dataset={args.dataset}` estimates them.")
    if ranks is not None:
        print(f"\nAmong the published entries of the GlaS challenge:\n{rank_sum_text(ranks)}\n")
        write_text(output / CSV_FILE, rank_sum_csv(ranks))
    print(f"Scores: {output}")
    if args.report is not None:
        from nucleus.evaluation.report.writing import write_report

        description = f"{which} of {args.dataset}"
        print(f"Report: {write_report(args.report, dataset, evaluations, predictions, description)}")
    return 0


def _running(weights: Path | None, config: ModelConfig, args: argparse.Namespace) -> Predictions:
    """Loads a model, and names it after its weights or, where it has none, after its preset."""
    from nucleus.models.loading import model_of
    from nucleus.prediction.predictions import KeptPredictions, ModelPredictions

    name = base_recipe(args, None).preset if weights is None else weights.stem
    model = ModelPredictions(model_of(weights, config), name, weights or "")
    # The report's pictures show them once more.
    return model if args.report is None else KeptPredictions(model)


def _named_folder(text: str) -> tuple[str | None, Path]:
    """Reads FOLDER or NAME=FOLDER; a folder whose own name holds "=" is taken for one where it exists."""
    name, equals, folder = text.partition("=")
    if not equals or Path(text).is_dir():
        return None, Path(text)
    if not name.strip() or not folder:
        raise argparse.ArgumentTypeError(f"expected FOLDER or NAME=FOLDER, received {text!r}")
    return name.strip(), Path(folder)


def _folder_names(names: Sequence[str]) -> list[str]:
    """Returns a folder's name for each model: letters, digits, "_", "-" and "." of its own, and none twice."""
    taken: list[str] = []
    for name in names:
        plain = re.sub(r"[^\w.-]+", "_", name)[:80].strip("._") or "model"
        same = sum(other.lower() == plain.lower() or other.lower().startswith(f"{plain.lower()}~") for other in taken)
        taken.append(f"{plain}~{same + 1}" if same else plain)
    return taken
