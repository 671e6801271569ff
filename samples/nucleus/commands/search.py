"""`nucleus search`."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from nucleus.commands import options
from nucleus.commands.arguments import base_recipe, first_weights, image_source, output_folder
from nucleus.datasets.division import VALIDATION, warn_if_seen
from nucleus.models.registry import NETWORKS, make_config
from nucleus.quiet import import_keras

SUMMARY = "search for settings by short trainings: at random, then in the most promising part of the space"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options of `nucleus search`."""
    options.add_dataset(command)
    options.add_configuration(command, tuple(NETWORKS))
    options.add_repeated(
        command,
        "--try",
        options.setting,
        "NAME=…",
        "a setting with the values to try (OPTIMIZER=SGD,Adam) or a range of numbers (BATCH_SIZE=2..8), with :log "
        "on a logarithmic scale (LEARNING_RATE=1e-5..0.1:log); repeat for more",
        dest="space",
        required=True,
    )
    command.add_argument(
        "--trials",
        type=options.positive,
        default=20,
        metavar="N",
        help="number of random trials (default: %(default)s)",
    )
    command.add_argument(
        "--narrow",
        type=options.positive,
        default=0,
        metavar="N",
        help="number of further trials in the part of the space that the best quarter of the random ones spans "
        "(default: none). Once begun, this search stays in that part, also when it is resumed with more --trials",
    )
    command.add_argument(
        "--epochs", type=options.positive, default=20, help="epochs of each training (default: %(default)s)"
    )
    command.add_argument(
        "--steps", type=options.positive, help="training steps per epoch, as --set STEPS_PER_EPOCH=STEPS"
    )
    command.add_argument(
        "--weights",
        default="none",
        type=_begin,
        metavar="{coco,imagenet,none,PATH}",
        help="initial weights of each training (default: %(default)s)",
    )
    command.add_argument("--subset", default="train", help="images to train on (default: %(default)s)")
    command.add_argument("--val-subset", default="val", help="images to score on (default: %(default)s)")
    command.add_argument(
        "--seed", type=options.positive, default=1, help="seed of the random trials (default: %(default)s)"
    )
    options.add_output(
        command,
        "folder of the search; an interrupted search in it is resumed, and a trial that failed for lack of a file, a "
        "download or memory is retried",
    )


def run(args: argparse.Namespace) -> int:
    """Searches for settings of a training; see `nucleus search --help`."""
    import_keras()
    from nucleus.experiments.search.objective import TrainingObjective, searchable
    from nucleus.experiments.search.space import as_table, parse_dimension
    from nucleus.experiments.search.studies import TRIALS_FILE, SearchPlan, search
    from nucleus.training.recipes import training_recipe

    names = [name for name, _ in args.space]
    path = first_weights(args)
    asked = training_recipe(base_recipe(args, path), args.weights, dict(args.settings), args.steps)
    recipe = searchable(asked, names)
    config = make_config("training", recipe.preset, recipe.settings, recipe.model)
    space = tuple(parse_dimension(config, name, text) for name, text in args.space)
    if len(set(names)) != len(names):
        raise ValueError(f"--try {max(names, key=names.count)} is given twice.")
    source = image_source(args)
    source.load(args.subset)
    val_ids = [info["id"] for info in source.load(args.val_subset).image_info]
    if path is not None:
        warn_if_seen(path, val_ids, VALIDATION)
    base = {"recipe": asdict(recipe), "weights": args.weights, "epochs": args.epochs}
    base |= {"dataset": str(args.dataset), "train": args.subset, "val": args.val_subset}
    output = output_folder(args, "search")
    objective = TrainingObjective(recipe, args.weights, path, args.epochs, source, args.subset, args.val_subset)
    trials = search(SearchPlan(space, args.trials, args.narrow, args.seed, base), objective, output)
    print(as_table(trials[:10]).to_string(index=False, na_rep=""))
    print(f"{len(trials)} tried; all: {output / TRIALS_FILE}")
    best = trials[0]
    if best.value is None:
        raise ValueError(f"Every trial failed, the last with: {trials[-1].error}")
    chosen = {**{name: recipe.settings[name] for name in ("STAGES",) if name in recipe.settings}, **best.settings}
    print("Best:", *(f'--set "{name}={value}"' for name, value in chosen.items()))
    return 0


def _begin(text: str) -> str:
    if text == "last":
        raise argparse.ArgumentTypeError("trials cannot resume a run; give the file of their initial weights")
    return text
