"""Options shared by several commands, and the types of their values."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nucleus.commands import values
from nucleus.commands.parsing import UsageError
from nucleus.datasets.layouts import LAYOUTS
from nucleus.datasets.source import DEFAULT_DATASET
from nucleus.images.decoding import PROJECTIONS
from nucleus.images.decoding.base import DEFAULT_LIMIT, LIMIT_VARIABLE
from nucleus.models.recipe import LINEAGE_MODEL
from nucleus.models.registry import MODELS, NETWORKS
from nucleus.models.views import SYMMETRIES
from nucleus.prediction.writers import CHOICES, DEFAULT_CHOICES, LABEL_FORMATS


def add_repeated(
    command: argparse.ArgumentParser, option: str, read: Callable[[str], Any], metavar: str, summary: str, **more: Any
) -> None:
    """Adds an option that may be given several times; its values are collected in a list.

    Args:
        command: The command.
        option: The option, such as "--set".
        read: Function from the text of a value to the value.
        metavar: Placeholder of the value in the help.
        summary: Help text.
        **more: Further arguments of `add_argument`.
    """
    command.add_argument(option, action="append", type=read, default=[], metavar=metavar, help=summary, **more)


def add_output(command: argparse.ArgumentParser, summary: str, default: str | None = None) -> None:
    """Adds --output, a folder.

    Args:
        command: The command.
        summary: Beginning of the help text.
        default: Description of the default; by default a folder that is named after the command and the time.
    """
    default = default or f"results/nucleus/{command.prog.split()[1]}_<time>"
    command.add_argument("--output", type=Path, metavar="FOLDER", help=f"{summary} (default: {default})")


def add_iou(command: argparse.ArgumentParser, scores: str) -> None:
    """Adds the IoU above which a nucleus counts as found.

    Args:
        command: Parser of the command.
        scores: The scores that depend on it, for the help.
    """
    command.add_argument(
        "--iou",
        type=values.detection_iou,
        default=0.7,
        metavar="IOU",
        help=f"IoU above which a nucleus counts as found, for {scores}, 0.5 to 1 (default: %(default)s)",
    )


def add_debug(command: argparse.ArgumentParser, default: Any = False) -> None:
    """Adds --debug.

    Args:
        command: Parser of the command.
        default: Default value; a command within a command suppresses it, since it would undo the outer one's.
    """
    command.add_argument("--debug", action="store_true", default=default, help="show the traceback of an error")


def add_dataset(command: argparse.ArgumentParser) -> None:
    """Adds the options that name a data set, which is datasets/nucleus by default."""
    add_source(
        command,
        DEFAULT_DATASET,
        "folder of a data set, its CSV or JSON file, or a file *.sets.json that lists several data sets (default: "
        "%(default)s). For stage1_train, --subset=val means "
        "the 25 customary validation images and train the rest; elsewhere val is a fifth of the images unless the data "
        "set has its own. Other subsets are all, folders, Usage values, testA...; a+b means both",
    )


def add_source(command: argparse.ArgumentParser, default: Path | None, summary: str) -> None:
    """Adds the options that name a data set.

    Args:
        command: The command.
        default: Path of the data set by default; None for none.
        summary: Help text of --dataset.
    """
    command.add_argument("--dataset", type=Path, default=default, metavar="PATH", help=summary)
    add_reading(command)


def add_reading(command: argparse.ArgumentParser) -> None:
    """Adds the options that say how a data set is laid out, of which modality its images are, and what is read."""
    command.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="layout of the data set (default: detected): "
        + "; ".join(f"{layout.name}: {layout.summary}" for layout in LAYOUTS.values()),
    )
    command.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="CSV file with the modality of every image (ImageId,modality), as `nucleus modality` writes it, for folds "
        "and scores by modality (default: what the data set says, or classes.csv in it)",
    )
    add_planes(command)


def add_division(command: argparse.ArgumentParser, subset: str, fold: str) -> None:
    """Adds the options that choose images of a data set by what a model was trained on.

    Args:
        command: The command.
        subset: Help text of --subset.
        fold: Beginning of the help text of --fold.
    """
    command.add_argument("--subset", help=subset)
    command.add_argument(
        "--fold",
        type=values.positive,
        metavar="K",
        help=f"{fold} the K-th fold of the images of --subset (default: train+val); images that the weights were "
        "trained on are refused",
    )
    command.add_argument(
        "--folds",
        type=values.folds,
        metavar="{N,FILE}",
        help="with --fold: number of folds, divided as `nucleus train` does, or a folds.json (default: those of the "
        "weights' run, else 4)",
    )


def add_configuration(command: argparse.ArgumentParser, models: Sequence[str] = tuple(MODELS)) -> None:
    """Adds the options that choose a model and its settings, and lists the presets below the help.

    Args:
        command: Parser of the command.
        models: Kinds of models to choose among.
    """
    command.epilog = _list_presets(models)
    command.add_argument(
        "--logs",
        type=Path,
        default=Path("logs"),
        metavar="FOLDER",
        help="folder of the training runs (default: %(default)s)",
    )
    command.add_argument(
        "--model",
        type=values.learning if tuple(models) == tuple(NETWORKS) else str,
        choices=models,
        help="kind of model (default: that of the weights or the preset; else, of the shipped ones, the best, and to "
        f"train, {LINEAGE_MODEL})",
    )
    command.add_argument(
        "--preset",
        choices=dict.fromkeys(name for model in models for name in MODELS[model].presets),
        metavar="NAME",
        help="named settings, see below (default: the weights' own)",
    )
    add_settings(command)


def add_settings(command: argparse.ArgumentParser) -> None:
    """Adds the option for single settings."""
    add_repeated(
        command,
        "--set",
        values.setting,
        "NAME=VALUE",
        "any configuration attribute, such as MIN_AREA=40; repeat for more",
        dest="settings",
    )


def add_scale(command: argparse.ArgumentParser) -> None:
    """Adds the options that choose how large images are shown to the model; they are added to those of --set."""
    choice = command.add_mutually_exclusive_group()
    choice.add_argument(
        "--scale",
        type=values.scale,
        action="append_once",
        default=[],
        dest="settings",
        metavar="F",
        help="factor by which images are enlarged for the model, or below 1 reduced; auto finds it for every image "
        "from the size of its nuclei (default: the model's, mostly auto)",
    )
    choice.add_argument(
        "--diameter",
        type=values.diameter,
        action="append_once",
        default=[],
        dest="settings",
        metavar="{PX,UMum}",
        help="diameter of the nuclei, from which the factor follows: in pixels (60), or in µm (8um) where files say "
        "how large their pixels are or --pixel-size does (default: found for every image)",
    )


def add_image_files(command: argparse.ArgumentParser) -> None:
    """Adds positional arguments for image files outside of a data set."""
    command.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files, and folders of them")


def add_recursive(command: argparse.ArgumentParser) -> None:
    """Adds the option to take the images in folders of folders."""
    command.add_argument("--recursive", action="store_true", help="take the images of all folders in a folder, too")


def add_overwrite(command: argparse.ArgumentParser, resume: bool = False) -> None:
    """Adds --overwrite, and --resume.

    Args:
        command: Parser of the command.
        resume: True for a command that can continue a run.
    """
    group = command.add_mutually_exclusive_group()
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the results of another run in the output folder (without it, such a folder is refused)",
    )
    if resume:
        group.add_argument(
            "--resume",
            action="store_true",
            help="continue the run in the output folder: what it finished is not predicted again, and the tables are "
            "those of an undisturbed run. Refused for another model, other settings, another version or changed images",
        )


def add_cluster(command: argparse.ArgumentParser) -> None:
    """Adds the options that spread the work on several processes or machines."""
    group = command.add_mutually_exclusive_group()
    group.add_argument(
        "--workers",
        type=values.positive,
        metavar="N",
        help="work in N processes of this machine, each with its share of the cores (default: in this one); needs the "
        "extra cluster",
    )
    group.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="work on the workers of a scheduler of Dask, such as tcp://10.0.0.1:8786, which see the image files and "
        "weights under the same paths; needs the extra cluster",
    )


def require_images(args: argparse.Namespace) -> None:
    """Makes sure that images are named, as files or folders or as a part of a data set.

    Args:
        args: Parsed options of `add_dataset`, `add_image_files` and `add_division`.

    Raises:
        UsageError: Neither is.
    """
    if not args.images and args.dataset == DEFAULT_DATASET and args.subset is None and args.fold is None:
        raise UsageError("name images: files or folders (IMAGE ...), or a data set (--dataset=PATH --subset=NAME)")


def add_planes(command: argparse.ArgumentParser) -> None:
    """Adds the options that choose what to read of files with several channels, planes, frames or scenes."""
    group = command.add_argument_group("image files of several channels, planes, frames or scenes")
    group.add_argument(
        "--channel",
        action="append",
        metavar="NAME|N",
        help="channel to read of files with several, by its name in the file or its number from 1 on; given three "
        "times, those for red, green and blue. Such files are refused without it, and the error lists their channels. "
        "A training records it with the model, which is then used with the same (default: the model's)",
    )
    plane = group.add_mutually_exclusive_group()
    plane.add_argument(
        "--plane",
        type=values.number_or_all,
        metavar="N|all",
        help="plane to read of z-stacks, from 1 on; all: nuclei of every plane, a stack of label images and tables "
        "with the plane's number (detect, measure)",
    )
    plane.add_argument(
        "--project", choices=PROJECTIONS, help="projection of all planes of z-stacks, instead of one plane"
    )
    group.add_argument(
        "--frame",
        type=values.number_or_all,
        metavar="N|all",
        help="frame to read of time series, from 1 on; all: as for planes",
    )
    group.add_argument(
        "--scene",
        metavar="NAME|N",
        help="one of several separate images in a file, by its name or its number from 1 on",
    )
    group.add_argument(
        "--max-pixels",
        type=values.number,
        metavar="N",
        help=f"largest number of pixels of an image that is decoded whole; 0: no limit (default: {DEFAULT_LIMIT:,}, or "
        f"the environment variable {LIMIT_VARIABLE})",
    )


def add_pixel_size(command: argparse.ArgumentParser) -> None:
    """Adds the option for the size of a pixel."""
    command.add_argument(
        "--pixel-size",
        type=values.length,
        metavar="UM",
        help="side of a pixel in µm, for measurements and for --diameter=...um (default: what each file says: OME-XML, "
        "ImageJ, resolution tags)",
    )


def add_label_format(command: argparse.ArgumentParser) -> None:
    """Adds the option for the file format of label images."""
    command.add_argument(
        "--label-format",
        choices=LABEL_FORMATS,
        default="png",
        help="format of the label images; tif and zarr (OME-Zarr) state the size of a pixel. Images that are read by "
        "regions get tif unless it is zarr (default: %(default)s)",
    )


def add_formats(command: argparse.ArgumentParser, default: Sequence[str] = DEFAULT_CHOICES) -> None:
    """Adds the options for the formats of the results.

    Args:
        command: Parser of the command.
        default: Formats without the option, names in `CHOICES`.
    """
    command.add_argument(
        "--write",
        type=values.formats,
        default=tuple(default),
        metavar="FORMAT[,FORMAT...]",
        help="results to write, names joined by commas: "
        + "; ".join(f"{name}: {files}" for name, files in CHOICES.items())
        + f" (default: {','.join(default)})",
    )
    add_label_format(command)


def add_trained(command: argparse.ArgumentParser, output: str | None = None) -> None:
    """Adds the options of the commands that use a trained model.

    Args:
        command: Parser of the command.
        output: Default output folder in words, for the help; None for the usual one.
    """
    command.add_argument(
        "--weights",
        type=values.trained,
        metavar="{shipped,last,PATH}",
        help="the shipped weights or a name that nucleus.load_model knows, the last checkpoint in --logs, the folder "
        "of a training run, or a file; weights without a recipe.json need --preset or --model (default: shipped; "
        "classical has none)",
    )
    add_views(command, ", as --set TEST_TIME_AUGMENTATION=...; --set 'TEST_TIME_SCALES=(0.8,1)' adds sizes")
    add_output(command, "folder of the results", output)


def add_views(command: argparse.ArgumentParser, remark: str = "") -> None:
    """Adds the option for test-time augmentation, one of the settings.

    Args:
        command: Parser of the command.
        remark: End of its help.
    """
    command.add_argument(
        "--tta",
        action="append_once",
        type=values.symmetries,
        default=[],
        metavar=f"{{{','.join(SYMMETRIES)}}}",
        help="test-time augmentation: predict every image in 1, 4 or 8 flipped and turned views and merge the "
        f"results{remark}",
        dest="settings",
    )


def _list_presets(models: Sequence[str]) -> str:
    lines = []
    for name in models:
        kind = MODELS[name]
        lines += [f"presets of {name} ({kind.summary}):"]
        lines += [f"  {preset:32} {settings.summary}" for preset, settings in kind.presets.items()]
    return "\n".join(lines)
