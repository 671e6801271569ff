"""What the command line takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from nucleus import commands
from nucleus.layouts import LAYOUTS
from nucleus.models import MODELS
from nucleus.weights import DOWNLOADABLE
from trainkit.imagenet import NETWORKS

_EPILOG = """\
examples:
  nucleus detect my_images/ --output=results/mine
  nucleus train --weights=coco --preset=resnet101-two-stage --set IMAGES_PER_GPU=4
  nucleus train --model=unet --weights=imagenet
  nucleus train --weights=last
  nucleus evaluate --weights=last --subset=val
  nucleus detect --dataset=datasets/nucleus --subset=stage1_test --weights=last"""


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line; its result has the function to call as `command`."""
    parser = argparse.ArgumentParser(
        prog="nucleus",
        description="Finds and outlines the nuclei in microscopy images with Mask R-CNN and U-Nets.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = _command(subparsers, commands.train, "train a model, or go on with one")
    command.add_argument(
        "--weights",
        required=True,
        metavar="{coco,imagenet,last,none,PATH}",
        help="start from COCO (mask_rcnn only) or ImageNet weights (downloaded if needed), from the last checkpoint in "
        "--logs (goes on where it stopped), from random weights (trains all layers and batch normalisation), or from "
        "a file",
    )
    command.add_argument("--subset", default="train", help="images to train on (default: %(default)s)")
    command.add_argument("--val-subset", default="val", help="images to validate on (default: %(default)s)")
    command.add_argument(
        "--fold",
        type=_positive,
        metavar="K",
        help="divide the images of both subsets into folds and validate on the K-th, the first being 1 (a run that "
        "goes on keeps its own)",
    )
    command.add_argument(
        "--folds",
        type=_folds,
        default=4,
        metavar="{N,FILE}",
        help="how many folds, stratified by modality and chosen by SEED, or the folds.json of another run (default: "
        "%(default)s)",
    )
    command.add_argument("--epochs", type=_positive, help="epochs in all (default: those of STAGES)")
    command.add_argument("--steps", type=_positive, help="training steps an epoch, as --set STEPS_PER_EPOCH=STEPS")

    command = _command(subparsers, commands.detect, "find nuclei, write label images, overlays and tables")
    command.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files, and folders of them")
    command.add_argument(
        "--subset", default="stage1_test", help="without IMAGE: images of the dataset (default: %(default)s)"
    )
    command.add_argument("--label-format", choices=("png", "tif"), default="png", help="of the label images")
    _add_trained(command)

    command = _command(subparsers, commands.evaluate, "score a model on images with masks")
    command.add_argument("--subset", default="val", help="images to score on (default: %(default)s)")
    command.add_argument(
        "--predictions",
        type=Path,
        metavar="FOLDER",
        help="score label images <ImageId>.png or .tif that were written before, such as <output>/labels of detect, "
        "instead of running a model",
    )
    _add_trained(command)

    command = _command(subparsers, commands.tune, "search the thresholds with which a U-Net's channels become nuclei")
    command.add_argument("--subset", default="train", help="images with masks to score on (default: %(default)s)")
    command.add_argument(
        "--try",
        dest="grid",
        action="append",
        type=_setting,
        default=[],
        metavar="NAME=VALUE,VALUE,…",
        help="values of a post-processing setting, such as MARKER_THRESHOLD=0.4,0.6,0.8 or "
        "POSTPROCESS=watershed,random-walker; repeat for more (default: thresholds and MIN_AREA)",
    )
    command.add_argument(
        "--search",
        choices=("coordinate", "grid"),
        default="coordinate",
        help="one setting after the other until none helps, or all combinations (default: %(default)s)",
    )
    _add_trained(command)

    command = _command(
        subparsers, commands.pack, "write trained weights as a small file with its settings, --set included, beside it"
    )
    command.add_argument("--weights", type=_trained, required=True, metavar="{last,PATH}", help="what to pack")
    command.add_argument("--output", type=Path, required=True, metavar="FILE.h5", help="the file to write")
    command.add_argument("--full-precision", action="store_true", help="keep float32 (default: half precision)")

    command = _command(
        subparsers, commands.convert, "write a data set as label images or as COCO JSON", configurable=False
    )
    command.epilog = None
    _add_dataset(command)
    command.add_argument("--subset", default="all", help="images to write (default: %(default)s)")
    command.add_argument("--to", choices=("labels", "coco"), required=True, help="what to write beside images/")
    command.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="a new folder")
    command.add_argument(
        "--fit", type=_positive, metavar="SIDE", help="scale and pad images to SIDE x SIDE pixels (512 for GlaS)"
    )

    command = _command(subparsers, commands.download, "fetch pretrained weights", configurable=False)
    command.add_argument(
        "what",
        nargs="*",
        type=_downloadable,
        default=["coco"],
        help=f"coco (default), imagenet (ResNet-50 and -101), one of {', '.join(NETWORKS)} (ImageNet), or dataset to "
        "be told where the images are",
    )
    return parser


def _command(
    subparsers: argparse._SubParsersAction, function, summary: str, configurable: bool = True
) -> argparse.ArgumentParser:
    """Adds a command with the options that all share, or all but `download`."""
    command = subparsers.add_parser(
        function.__name__,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_list_presets() if configurable else commands.DATASET_HELP,
    )
    command.set_defaults(command=function)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if configurable:
        _add_dataset(command)
        command.add_argument(
            "--logs",
            type=Path,
            default=Path("logs"),
            metavar="FOLDER",
            help="folder of the training runs (default: %(default)s)",
        )
        command.add_argument(
            "--model",
            choices=MODELS,
            help="default: that of the weights or the preset, else mask_rcnn",
        )
        command.add_argument(
            "--preset",
            choices=dict.fromkeys(name for kind in MODELS.values() for name in kind.presets),
            metavar="NAME",
            help="named settings, see below (default: the weights' own)",
        )
        command.add_argument(
            "--set",
            dest="settings",
            action="append",
            type=_setting,
            default=[],
            metavar="NAME=VALUE",
            help="any configuration attribute, such as DETECTION_NMS_THRESHOLD=0.2; repeat for more",
        )
    return command


def _add_dataset(command: argparse.ArgumentParser) -> None:
    """Adds the options that say where the images are."""
    command.add_argument(
        "--dataset",
        type=Path,
        default=Path("datasets/nucleus"),
        metavar="PATH",
        help="folder of a data set, or its CSV or JSON file (default: %(default)s). Of stage1_train, --subset=val is "
        "the customary 25 images and train the rest; elsewhere val is a fifth where the data set has no val of its "
        "own. --subset=all is all; others are folders, Usage values, testA..., and a+b is both",
    )
    command.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="how the data set is laid out (default: told by what is there): "
        + "; ".join(f"{layout.name}: {layout.summary}" for layout in LAYOUTS.values()),
    )


def _list_presets() -> str:
    lines = []
    for name, kind in MODELS.items():
        lines += [f"presets of {name} ({kind.summary}):"]
        lines += [f"  {preset:32} {settings.summary}" for preset, settings in kind.presets.items()]
    return "\n".join(lines)


def _add_trained(command: argparse.ArgumentParser) -> None:
    """Adds the options of the commands that use a trained model."""
    command.add_argument(
        "--weights",
        type=_trained,
        metavar="{last,PATH}",
        help="the last checkpoint in --logs, or a file (default: the weights that come with the project)",
    )
    command.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help=f"where the results go (default: results/nucleus/{command.prog.split()[-1]}_<time>)",
    )


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, received {text!r}")
    return name.strip(), value.strip()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number above 0, received {text!r}")
    return int(text)


def _folds(text: str) -> int | Path:
    return int(text) if text.isdecimal() else Path(text)


def _trained(text: str) -> str:
    if text in (*DOWNLOADABLE, "none"):
        raise argparse.ArgumentTypeError(f"{text!r} has not learned nuclei; give 'last' or the file of a trained model")
    return text


def _downloadable(text: str) -> str:
    choices = (*DOWNLOADABLE, *NETWORKS, "dataset")
    if text not in choices:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(choices)}, received {text!r}")
    return text
