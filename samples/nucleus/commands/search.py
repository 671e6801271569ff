"""`nucleus search`."""

from __future__ import annotations

import argparse

from nucleus.commands import options, values
from nucleus.commands.arguments import image_source, output_folder, recorded_settings
from nucleus.models.registry import NETWORKS
from nucleus.quiet import import_keras

SUMMARY = "search for settings by short trainings: at random, then in the most promising part of the space"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options of `nucleus search`."""
    options.add_dataset(command)
    options.add_configuration(command, tuple(NETWORKS))
    options.add_repeated(
        command,
        "--try",
        values.setting,
        "NAME=…",
        "a setting with the values to try (OPTIMIZER=SGD,Adam) or a range of numbers (BATCH_SIZE=2..8), with :log "
        "on a logarithmic scale (LEARNING_RATE=1e-5..0.1:log); repeat for more",
        dest="space",
        required=True,
    )
    command.add_argument(
        "--trials",
        type=values.positive,
        default=20,
        metavar="N",
        help="number of random trials (default: %(default)s)",
    )
    command.add_argument(
        "--narrow",
        type=values.positive,
        default=0,
        metavar="N",
        help="number of further trials in the part of the space that the best quarter of the random ones spans "
        "(default: none). Once begun, this search stays in that part, also when it is resumed with more --trials",
    )
    command.add_argument(
        "--epochs", type=values.positive, default=20, help="epochs of each training (default: %(default)s)"
    )
    command.add_argument(
        "--steps", type=values.positive, help="training steps per epoch, as --set STEPS_PER_EPOCH=STEPS"
    )
    command.add_argument(
        "--weights",
        default="none",
        type=_begin,
        metavar="{shipped,coco,imagenet,none,PATH}",
        help="initial weights of each training (default: %(default)s)",
    )
    command.add_argument("--subset", default="train", help="images to train on (default: %(default)s)")
    command.add_argument("--val-subset", default="val", help="images to score on (default: %(default)s)")
    command.add_argument(
        "--seed", type=values.positive, default=1, help="seed of the random trials (default: %(default)s)"
    )
    options.add_output(
        command,
        "folder of the search; an interrupted search in it is resumed, and a trial that failed for lack of a file, a "
        "download or memory is retried",
    )


def run(args: argparse.Namespace) -> int:
    """Searches for settings of a training; see `nucleus search --help`."""
    import_keras()
    from nucleus.experiments.search.space import as_table
    from nucleus.experiments.search.studies import TRIALS_FILE
    from nucleus.experiments.search.trainings import search_trainings

    output = output_folder(args, "search")
    result = search_trainings(
        image_source(args),
        args.space,
        output,
        weights=args.weights,
        model=args.model,
        preset=args.preset,
        settings=recorded_settings(args),
        steps=args.steps,
        epochs=args.epochs,
        subset=args.subset,
        val_subset=args.val_subset,
        trials=args.trials,
        narrow=args.narrow,
        seed=args.seed,
        model_dir=args.logs,
    )
    print(as_table(result.trials[:10]).to_string(index=False, na_rep=""))
    print(f"{len(result.trials)} tried; all: {output / TRIALS_FILE}")
    print("Best:", *(f'--set "{name}={value}"' for name, value in result.best.items()))
    return 0


def _begin(text: str) -> str:
    if text == "last":
        raise argparse.ArgumentTypeError("trials cannot resume a run; give the file of their initial weights")
    return text
