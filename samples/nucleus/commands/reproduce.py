"""`nucleus reproduce`."""

from __future__ import annotations

import argparse
from pathlib import Path

from nucleus.commands import options, values
from nucleus.commands.arguments import chosen_planes, recorded_settings
from nucleus.datasets.layouts import LAYOUTS
from nucleus.models.weights import existing_file
from nucleus.quiet import import_keras
from trainkit.files import require_writable

SUMMARY = "repeat experiments of publications, and compare measured with published scores"
_OUTPUT = Path("results", "nucleus", "reproduce")
_QUICK_OUTPUT = Path("results", "nucleus", "reproduce_quick")
_EPILOG = """\
examples:
  nucleus reproduce --list
  nucleus reproduce --list zhang-final
  nucleus reproduce zhang-final --test=datasets/stage1_test

experiments of your own, in a TOML file:
  nucleus reproduce --example > my.toml
  nucleus reproduce --file my.toml --list
  nucleus reproduce --file my.toml my-unet --quick"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options of `nucleus reproduce`."""
    command.epilog = _EPILOG
    command.add_argument("names", nargs="*", metavar="NAME", help="experiments; see --list")
    command.add_argument(
        "--list", action="store_true", help="list all experiments; with NAME, show all details of these experiments"
    )
    options.add_repeated(
        command,
        "--file",
        Path,
        "FILE",
        "TOML file with experiments of your own, beside the shipped ones; repeat for more",
        dest="files",
    )
    command.add_argument(
        "--example", action="store_true", help="print a commented file for --file, with an example of every key"
    )
    command.add_argument(
        "--quick",
        action="store_true",
        help="small networks, with shipped weights where there are some, on one or two shipped images that they learn: "
        "checks within minutes that an experiment runs and finds nuclei; its scores say no more than that",
    )
    _add_images(command)
    command.add_argument(
        "--weights",
        metavar="PATH",
        help="score this weights file of the experiment's network instead of training, on the images that its run held "
        "out, if known",
    )
    options.add_repeated(
        command,
        "--set",
        values.setting,
        "NAME=VALUE",
        "change a setting of the experiment, such as IMAGES_PER_GPU=1; recorded in the table; repeat for more",
        dest="settings",
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder of the table and the trainings; interrupted trainings are resumed (default: "
        f"{_OUTPUT}, with --quick {_QUICK_OUTPUT})",
    )


def _add_images(command: argparse.ArgumentParser) -> None:
    """Adds the options that choose images to train on, to hold out and to score on."""
    options.add_source(command, None, "data set to train on (default: datasets/nucleus, for GlaS datasets/glas)")
    command.add_argument(
        "--test",
        type=Path,
        metavar="PATH",
        help="another data set with masks to score on, by the networks of all folds together, such as the folder with "
        "stage1_solution.csv; for GlaS one with both test parts (default: the test parts of the data set, else the "
        "held-out images)",
    )
    command.add_argument("--test-subset", help="subset of --test (default: all; for GlaS its test parts)")
    command.add_argument("--test-layout", choices=LAYOUTS, help="layout of --test (default: detected)")
    options.add_repeated(
        command,
        "--fold",
        values.positive,
        "K",
        "hold out only this fold of an experiment with folds; repeat for more (default: those of the experiment)",
        dest="folds",
    )


def run(args: argparse.Namespace) -> int:
    """Repeats experiments; see `nucleus reproduce --help`."""
    from nucleus.experiments.publications import EXAMPLE_FILE, EXPERIMENTS, find_experiment, with_files
    from nucleus.experiments.publications.describe import describe, list_experiments

    if args.example:
        print(EXAMPLE_FILE.read_text(encoding="utf-8"), end="")
        return 0
    known = with_files(args.files) if args.files else EXPERIMENTS
    experiments = [find_experiment(name, known) for name in args.names]
    if args.list:
        print("\n\n".join(map(describe, experiments)) or list_experiments(known.values()))
        return 0
    if not experiments:
        raise ValueError("Name an experiment; `nucleus reproduce --list` lists them.")
    output = args.output or (_QUICK_OUTPUT if args.quick else _OUTPUT)
    require_writable(output)
    import_keras()
    from nucleus.experiments.publications.quick import quick
    from nucleus.experiments.publications.runner import Options, reproduce
    from nucleus.experiments.publications.table import MARKDOWN_FILE

    chosen = Options(
        output=output,
        dataset=args.dataset,
        layout=args.layout,
        classes=args.classes,
        test=args.test,
        test_subset=args.test_subset,
        test_layout=args.test_layout,
        weights=None if args.weights is None else existing_file(args.weights, experiments[0].model),
        held_out=tuple(args.folds),
        settings=recorded_settings(args),
        planes=chosen_planes(args),
        quick=args.quick,
    )
    for experiment in experiments:
        rows = reproduce(quick(experiment) if args.quick else experiment, chosen)
        print(f"{experiment.name} on {rows[0].measured_on}, {rows[0].seconds:.0f} s:")
        for row in rows:
            published, measured = ("-" if value is None else f"{value:g}" for value in (row.published, row.measured))
            print(f"  {row.metric:16} {row.part:12} published {published:>8}  measured {measured:>8}")
    print(f"Table: {chosen.output / MARKDOWN_FILE}")
    return 0
