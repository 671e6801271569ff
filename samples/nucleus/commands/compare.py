"""`nucleus compare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from nucleus.commands import options, values
from nucleus.commands.arguments import channel_setting, image_source, output_folder
from nucleus.commands.parsing import UsageError
from nucleus.datasets.division import DEFAULT_FOLDS
from nucleus.models.registry import MODELS
from nucleus.models.views import SYMMETRIES
from nucleus.quiet import import_keras

if TYPE_CHECKING:
    from nucleus.experiments.comparison import Member

SUMMARY = "train and score models out of fold, with and without test-time augmentation, and their ensemble"
_EPILOG = """\
examples:
  nucleus compare --quick
  nucleus compare --dataset=datasets/nucleus --output=results/comparison --epochs unet=20 --epochs mask_rcnn=20
  nucleus compare --member unet=unet/xception --weights unet=imagenet --set unet.BATCH_SIZE=4 \\
    --member mask_rcnn=mask_rcnn/lineage --weights mask_rcnn=coco --folds=10 --output=results/pretrained"""


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options of `nucleus compare`."""
    command.epilog = _EPILOG
    options.add_dataset(command)
    command.add_argument(
        "--subset", default="train+val", help="images with masks to divide into folds (default: %(default)s)"
    )
    command.add_argument(
        "--folds",
        type=values.folds,
        metavar="{N,FILE}",
        help="number of folds, stratified by modality, or the folds.json of a run, to take its images "
        f"(default: {DEFAULT_FOLDS}, with --quick 2)",
    )
    command.add_argument(
        "--seed", type=values.number, default=0, help="seed of folds, trainings and ensemble (default: %(default)s)"
    )
    options.add_repeated(
        command,
        "--member",
        _member,
        "NAME=MODEL[/PRESET]",
        "a model to compare; repeat for more (default: classical=classical/active-contours unet=unet/small "
        "mask_rcnn=mask_rcnn/small). Two or more that learn are also combined into an ensemble",
        dest="members",
    )
    _add_for_member(
        command, "--weights", str, "initial weights of its trainings: none, coco, imagenet, shipped or a file"
    )
    _add_for_member(command, "--epochs", values.positive, "epochs of each training (default: those of STAGES)")
    _add_for_member(command, "--steps", values.positive, "training steps per epoch, as NAME.STEPS_PER_EPOCH")
    options.add_repeated(
        command,
        "--set",
        _member_setting,
        "NAME.SETTING=VALUE",
        "any configuration attribute of a member, such as unet.CLAHE=True; repeat for more",
        dest="settings",
    )
    command.add_argument(
        "--tta",
        choices=SYMMETRIES,
        default="flips-rotations",
        help="test-time augmentation with which every model is scored too; none switches it off (default: %(default)s)",
    )
    options.add_iou(command, "precision, recall and F1")
    command.add_argument(
        "--quick",
        action="store_true",
        help="tiny networks, a few steps, three shipped images, two folds: checks within two "
        "minutes that everything runs; its scores are meaningless",
    )
    options.add_output(
        command, "folder of tables, report, predictions and trainings; an interrupted comparison in it is resumed"
    )


def run(args: argparse.Namespace) -> int:
    """Compares models out of fold; see `nucleus compare --help`."""
    members, output = _members(args), output_folder(args, "compare")
    import_keras()
    from nucleus.experiments.comparison.data import compare_on

    table = compare_on(
        image_source(args),
        members,
        output,
        subset=args.subset,
        folds=args.folds,
        views=args.tta,
        seed=args.seed,
        iou=args.iou,
        quick=args.quick,
    )
    print(f"\n{table}\nTables, report and predictions: {output}")
    return 0


def _members(args: argparse.Namespace) -> list[Member]:
    """Returns the members with their options."""
    from nucleus.experiments.comparison.members import DEFAULT_MEMBERS

    members = {member.name: member for member in args.members or DEFAULT_MEMBERS}
    if len(members) < len(args.members or DEFAULT_MEMBERS):
        raise ValueError("Two members have one name (--member NAME=MODEL).")
    steps = [(name, ("STEPS_PER_EPOCH", count)) for name, count in args.steps]
    for name, _ in [*args.weights, *args.epochs, *steps, *args.settings]:
        if name not in members:
            raise ValueError(f"Unknown member {name!r}. Known: {', '.join(members)}.")
    for option, given in (("--weights", args.weights), ("--epochs", args.epochs), ("--steps", args.steps)):
        names = [name for name, _ in given]
        if len(set(names)) < len(names):
            raise UsageError(f"argument {option}: given twice for {max(names, key=names.count)}")
    weights, epochs = dict(args.weights), dict(args.epochs)
    return [
        replace(
            member,
            weights=weights.get(name, member.weights),
            epochs=epochs.get(name, member.epochs),
            settings={
                **({"SEED": args.seed} if member.learns else {}),
                **channel_setting(args),
                **_of(name, steps),
                **_of(name, args.settings),
            },
        )
        for name, member in members.items()
    ]


def _of(name: str, settings: Sequence[tuple[str, tuple[str, Any]]]) -> dict[str, Any]:
    return dict(pair for member, pair in settings if member == name)


def _add_for_member(command: argparse.ArgumentParser, option: str, read: Any, summary: str) -> None:
    def parse(text: str) -> tuple[str, Any]:
        name, value = values.setting(text)
        return name, read(value)

    value = option.strip("-").upper()
    options.add_repeated(command, option, parse, f"NAME={value}", f"for one member: {summary}; repeat for more members")


def _member(text: str) -> Member:
    """Reads NAME=MODEL or NAME=MODEL/PRESET."""
    from nucleus.experiments.comparison.members import Member

    name, value = values.setting(text)
    model, _, preset = value.partition("/")
    if model not in MODELS:
        raise argparse.ArgumentTypeError(f"there is no model {model!r}, but {', '.join(MODELS)}")
    return Member(name, model, preset or MODELS[model].default_preset)


def _member_setting(text: str) -> tuple[str, tuple[str, str]]:
    """Reads NAME.SETTING=VALUE."""
    left, value = values.setting(text)
    name, dot, attribute = left.rpartition(".")
    if not dot or not name or not attribute:
        raise argparse.ArgumentTypeError(f"expected NAME.SETTING=VALUE, received {text!r}")
    return name, (attribute, value)
