"""`nucleus tune`."""

from __future__ import annotations

import argparse

from nucleus.commands import options
from nucleus.commands.division import load_images
from nucleus.commands.selection import inference_config, new_folder, trained_weights, weights_recipe
from nucleus.quiet import import_keras

SUMMARY = "search the settings with which a U-Net's channels become nuclei, or those of a classical method"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds what it takes."""
    options.add_dataset(command)
    options.add_configuration(command)
    options.add_division(
        command,
        "images with masks to score on (default: train, or the images that the run of the weights "
        "was trained on, if it held out a fold: scores on images that thresholds were chosen on are too good, so "
        "those of val are left to be scored on)",
        "score on",
    )
    command.add_argument(
        "--try",
        dest="grid",
        action="append",
        type=options.setting,
        default=[],
        metavar="NAME=VALUE,VALUE,…",
        help="values of a setting, such as MARKER_THRESHOLD=0.4,0.6,0.8 or POSTPROCESS=watershed,random-walker; repeat "
        "for more (default: thresholds and MIN_AREA, and what else a classical method depends on)",
    )
    command.add_argument(
        "--search",
        choices=("coordinate", "grid"),
        default="coordinate",
        help="one setting after the other until none helps, or all combinations (default: %(default)s)",
    )
    options.add_trained(command)


def run(args: argparse.Namespace) -> int:
    """Searches the settings of a U-Net's post-processing or of a classical method; see `nucleus tune --help`."""
    weights = trained_weights(args, "unet")
    if weights is not None:
        import_keras()
    import pandas as pd

    from nucleus.training.tuning import parse_values
    from trainkit.files import write_text

    config = inference_config(weights_recipe(args, weights), args.settings)
    if config.model_kind == "mask_rcnn":
        raise ValueError(f"{weights}: mask_rcnn has no thresholds to tune; tune is for U-Nets and classical methods.")
    grid = {name: parse_values(config, name, values) for name, values in args.grid}
    dataset, _ = load_images(args, weights, config.SEED, "train", own="learned")
    if config.model_kind == "classical":
        from nucleus.models.classical.tuning import tune_classical

        report = tune_classical(config, dataset, grid, args.search)
    else:
        from nucleus.models.inference import load_model
        from nucleus.training.tuning import tune_postprocessing

        report = tune_postprocessing(load_model(weights, config, args.logs), dataset, grid, args.search)
    output = args.output or new_folder("tune")
    write_text(output / "tuning.csv", pd.DataFrame(report.rows).to_csv(index=False, lineterminator="\n"))
    print(report.table(limit=10))
    print(f"{len(report.trials)} tried, * is what it began with; all: {output / 'tuning.csv'}")
    print("Best:", *(f"--set {name}={value}" for name, value in report.best.items()))
    return 0
