"""`nucleus reproduce`."""

from __future__ import annotations

import argparse
from pathlib import Path

from nucleus.commands import options
from nucleus.datasets.layouts import LAYOUTS
from nucleus.models.weights import existing_file
from nucleus.quiet import import_keras

SUMMARY = "repeat experiments of publications, and note what is measured beside what was published"
_OUTPUT = Path("results", "nucleus", "reproduce")
_QUICK_OUTPUT = Path("results", "nucleus", "reproduce_quick")


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds what it takes."""
    command.add_argument("names", nargs="*", metavar="NAME", help="experiments, see --list")
    command.add_argument(
        "--list", action="store_true", help="list the experiments; with NAME, tell all that is known of each"
    )
    command.add_argument(
        "--quick",
        action="store_true",
        help="tiny networks on the shipped images, a step an epoch, random weights: shows in a minute that an "
        "experiment runs; its scores say nothing",
    )
    command.add_argument(
        "--dataset", type=Path, metavar="PATH", help="its images (default: datasets/nucleus, for GlaS datasets/glas)"
    )
    command.add_argument("--layout", choices=LAYOUTS, help="how they are laid out (default: told by what is there)")
    command.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="CSV file with the modality of every image (ImageId,modality), as `nucleus modality` writes it: folds are "
        "stratified by it, and scores of --test told by it (default: what a data set says, or classes.csv in it)",
    )
    command.add_argument(
        "--test",
        type=Path,
        metavar="PATH",
        help="another data set with masks to score on, by the networks of all folds together, such as the folder with "
        "stage1_solution.csv; for an experiment on GlaS with both test parts in it (default: the test parts of GlaS; "
        "else the images held out)",
    )
    command.add_argument("--test-subset", help="images of --test (default: all; of GlaS its test parts)")
    command.add_argument(
        "--test-layout", choices=LAYOUTS, help="how --test is laid out (default: told by what is there)"
    )
    command.add_argument(
        "--fold",
        dest="folds",
        action="append",
        type=options.positive,
        default=[],
        metavar="K",
        help="hold out this fold only, where an experiment has folds; repeat for more (default: those it held out)",
    )
    command.add_argument(
        "--weights",
        metavar="PATH",
        help="score this file instead of training (the experiment says of which network), on what its run held out "
        "where that is known",
    )
    command.add_argument(
        "--set",
        dest="settings",
        action="append",
        type=options.setting,
        default=[],
        metavar="NAME=VALUE",
        help="do otherwise than the experiment, such as IMAGES_PER_GPU=1; noted in the table; repeat for more",
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help=f"of the table and the trainings, which go on where they were stopped (default: {_OUTPUT}, with --quick "
        f"{_QUICK_OUTPUT})",
    )


def run(args: argparse.Namespace) -> int:
    """Repeats experiments; see `nucleus reproduce --help`."""
    from nucleus.experiments.publications import EXPERIMENTS, find_experiment
    from nucleus.experiments.publications.describe import describe, list_experiments

    experiments = [find_experiment(name) for name in args.names]
    if args.list:
        print("\n\n".join(map(describe, experiments)) or list_experiments(EXPERIMENTS.values()))
        return 0
    if not experiments:
        raise ValueError("Name an experiment; `nucleus reproduce --list` lists them.")
    import_keras()
    from nucleus.experiments.publications.quick import quick, uncompiled
    from nucleus.experiments.publications.runner import Options, reproduce
    from nucleus.experiments.publications.table import MARKDOWN_FILE

    chosen = Options(
        output=args.output or (_QUICK_OUTPUT if args.quick else _OUTPUT),
        dataset=args.dataset,
        layout=args.layout,
        classes=args.classes,
        test=args.test,
        test_subset=args.test_subset,
        test_layout=args.test_layout,
        weights=None if args.weights is None else existing_file(args.weights),
        held_out=tuple(args.folds),
        settings=dict(args.settings),
        quick=args.quick,
    )
    for experiment in experiments:
        if args.quick:
            with uncompiled():
                rows = reproduce(quick(experiment), chosen)
        else:
            rows = reproduce(experiment, chosen)
        print(f"{experiment.name} on {rows[0].measured_on}, {rows[0].seconds:.0f} s:")
        for row in rows:
            published, measured = ("-" if value is None else f"{value:g}" for value in (row.published, row.measured))
            print(f"  {row.metric:16} {row.part:12} published {published:>8}  measured {measured:>8}")
    print(f"Table: {chosen.output / MARKDOWN_FILE}")
    return 0
