"""`nucleus tune`."""

from __future__ import annotations

import argparse

from nucleus.commands import options, values
from nucleus.commands.arguments import output_folder, wanted_images, wanted_model
from nucleus.models.registry import MODELS
from trainkit.search import SEARCHES

SUMMARY = "search the post-processing settings of a U-Net, or the settings of a classical method"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    options.add_dataset(command)
    options.add_configuration(command)
    options.add_scale(command)
    options.add_division(
        command,
        "images with masks to score on (default: train, or the images that the run of the weights "
        "was trained on, if it held out a fold: scores on the images that settings were chosen on are too good, so "
        "val is kept for scoring)",
        "score on",
    )
    options.add_repeated(
        command,
        "--try",
        values.setting,
        "NAME=VALUE,VALUE,…",
        "values of a setting, such as MARKER_THRESHOLD=0.4,0.6,0.8 or POSTPROCESS=watershed,random-walker; repeat "
        "for more (default: thresholds and MIN_AREA, and the other main settings of a classical method)",
        dest="grid",
    )
    command.add_argument(
        "--search",
        choices=SEARCHES,
        default="coordinate",
        help="one setting after the other until none helps, or all combinations (default: %(default)s)",
    )
    options.add_trained(command)


def run(args: argparse.Namespace) -> int:
    """Searches the settings of a U-Net's post-processing or of a classical method; see `nucleus tune --help`."""
    output = output_folder(args, "tune")
    chosen = wanted_model(args, network=True)
    config = chosen.config
    import pandas as pd

    from nucleus.training.tuning import parse_values
    from trainkit.files import write_text

    if not MODELS[config.model_kind].tunable:
        raise ValueError(
            f"{chosen.path}: {config.model_kind} has no thresholds to tune; tune is for U-Nets and classical methods."
        )
    grid = {name: parse_values(config, name, text) for name, text in args.grid}
    dataset, _ = wanted_images(args, chosen.path, config, default="train", own="learned")
    report = chosen.load().tune(dataset, grid, args.search)
    write_text(output / "tuning.csv", pd.DataFrame(report.rows).to_csv(index=False, lineterminator="\n"))
    print(report.table(limit=10))
    print(f"{len(report.trials)} tried, * marks the initial settings; all: {output / 'tuning.csv'}")
    print("Best:", *(f"--set {name}={value}" for name, value in report.best.items()))
    return 0
