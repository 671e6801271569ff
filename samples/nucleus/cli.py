"""The command line: `nucleus train`, `detect`, `evaluate`, `pack` and `download`.

This module parses, calls and prints. What needs Keras is imported by the commands themselves, so that `--help` and
a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mrcnn.config import BACKBONES
from mrcnn.runs import last_checkpoint
from nucleus.config import NucleusConfig, inference_settings, make_config
from nucleus.presets import PRESETS
from nucleus.quiet import import_keras
from nucleus.weights import (
    DOWNLOADABLE,
    Recipe,
    existing_file,
    find_recipe,
    shipped_weights,
)

DATASET_HELP = """\
The images of the 2018 Data Science Bowl are not downloaded by this command. Get stage1_train.zip (and stage1_test.zip)
  from https://www.kaggle.com/c/data-science-bowl-2018/data (an account is needed), or
  from https://bbbc.broadinstitute.org/BBBC038 (BBBC038v1, CC0, no account),
and unpack each into a folder of its name: datasets/nucleus/stage1_train/<ImageId>/{images,masks}/*.png"""

_EPILOG = """\
examples:
  nucleus detect my_images/ --output=results/mine
  nucleus train --weights=coco --preset=resnet101-two-stage --set IMAGES_PER_GPU=4
  nucleus train --weights=last
  nucleus evaluate --weights=last --subset=val
  nucleus detect --dataset=datasets/nucleus --subset=stage1_test --weights=last"""

# Layers whose shape depends on the number of classes, 81 in COCO.
_COCO_HEADS = ["mrcnn_class_logits", "mrcnn_bbox_fc", "mrcnn_bbox", "mrcnn_mask"]


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        0 if all went well, 1 if something failed (named on stderr), 130 after Ctrl-C. Wrong usage ends with
        SystemExit(2).
    """
    args = _parser().parse_args(argv)
    logging.basicConfig(format="nucleus: %(levelname)s: %(message)s")
    # It warns of a graph for every image size, which is how detection is meant to run.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from trainkit.download import DownloadError

    try:
        return args.command(args)
    except KeyboardInterrupt:
        print("nucleus: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, DownloadError) as error:
        if args.debug:
            raise
        print(f"nucleus: error: {error}", file=sys.stderr)
        return 1


def train(args: argparse.Namespace) -> int:
    """Trains a model; see `nucleus train --help`."""
    import_keras()
    from mrcnn.model import MaskRCNN
    from nucleus import training
    from nucleus.inference import preprocessing

    weights = _training_weights(args)
    recipe = _training_recipe(args, weights)
    config = make_config("training", recipe.preset, recipe.settings)
    inference_config = make_config("inference", recipe.preset, inference_settings(recipe.settings))

    train_dataset = _dataset(args.dataset, args.subset, preprocessing=preprocessing(config))
    val_dataset = _dataset(args.dataset, args.val_subset, preprocessing=preprocessing(config))
    train_dataset.cache_labels()
    val_dataset.cache_labels()

    config.display()
    model = MaskRCNN(mode="training", config=config, model_dir=str(args.logs))
    _load_training_weights(model, args.weights, weights)
    recipe.save(model.log_dir)
    training.train(
        model,
        train_dataset,
        val_dataset,
        inference_config=inference_config,
        evaluation_dataset=_dataset(args.dataset, args.val_subset),
        epochs=args.epochs,
    )
    print(f"Trained {model.epoch} epochs: {model.log_dir}")
    return 0


def detect(args: argparse.Namespace) -> int:
    """Finds nuclei in images; see `nucleus detect --help`."""
    import_keras()
    from nucleus.detection import collect_images
    from nucleus.detection import detect as run_detection
    from nucleus.inference import load_model

    weights = _trained_weights(args)
    config = _inference_config(args, weights)
    failures: list[str] = []
    if args.images:
        dataset, failures = collect_images(args.images)
    else:
        dataset = _dataset(args.dataset, args.subset, require_masks=False, failures=failures)
    if dataset.num_images == 0:
        return _report_failures(failures)
    model = load_model(weights, config, args.logs)
    run = run_detection(model, dataset, args.output or _new_folder("detect"), args.label_format)
    run.failures[:0] = failures
    print(run)
    return _report_failures(run.failures)


def evaluate(args: argparse.Namespace) -> int:
    """Scores a model on images with masks; see `nucleus evaluate --help`."""
    from nucleus.evaluation import evaluate as score
    from nucleus.evaluation import evaluate_predictions, save_scores, summarise

    if args.predictions is not None:
        scores = evaluate_predictions(args.predictions, _dataset(args.dataset, args.subset))
    else:
        import_keras()
        from nucleus.inference import load_model

        weights = _trained_weights(args)
        config = _inference_config(args, weights)
        dataset = _dataset(args.dataset, args.subset)
        scores = score(load_model(weights, config, args.logs), dataset)
    output = args.output or _new_folder("evaluate")
    save_scores(scores, output)
    print(summarise(scores).to_string(float_format="{:.3f}".format))
    print(f"Scores: {output}")
    return 0


def pack(args: argparse.Namespace) -> int:
    """Makes a small file of trained weights; see `nucleus pack --help`."""
    import_keras()
    from trainkit.hdf5 import repack_weights

    weights = _trained_weights(args)
    repack_weights(weights, args.output, dtype=None if args.full_precision else "float16")
    _recipe(args, weights).save_beside(args.output)
    print(f"{args.output}: {args.output.stat().st_size / 2**20:.1f} MB")
    return 0


def download(args: argparse.Namespace) -> int:
    """Fetches pretrained weights, or says where the images are; see `nucleus download --help`."""
    from mrcnn.weights import download_coco, download_imagenet

    for what in args.what:
        if what == "dataset":
            print(DATASET_HELP)
        elif what == "coco":
            print(download_coco())
        else:
            for backbone in BACKBONES:
                print(download_imagenet(backbone))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nucleus",
        description="Finds and outlines the nuclei in microscopy images with Mask R-CNN.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    command = _command(commands, train, "train a model, or go on with one")
    command.add_argument(
        "--weights",
        required=True,
        metavar="{coco,imagenet,last,none,PATH}",
        help="start from COCO or ImageNet weights (downloaded if needed), from the last checkpoint in --logs (goes "
        "on where it stopped), from random weights (trains all layers and batch normalisation), or from a file",
    )
    command.add_argument("--subset", default="train", help="images to train on (default: %(default)s)")
    command.add_argument("--val-subset", default="val", help="images to validate on (default: %(default)s)")
    command.add_argument("--epochs", type=_positive, help="epochs in all (default: those of STAGES)")
    command.add_argument("--steps", type=_positive, help="training steps an epoch, as --set STEPS_PER_EPOCH=STEPS")

    command = _command(commands, detect, "find nuclei, write label images, overlays and tables")
    command.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="image files, and folders of them")
    command.add_argument(
        "--subset", default="stage1_test", help="without IMAGE: images of the dataset (default: %(default)s)"
    )
    command.add_argument("--label-format", choices=("png", "tif"), default="png", help="of the label images")
    _add_trained(command)

    command = _command(commands, evaluate, "score a model on images with masks")
    command.add_argument("--subset", default="val", help="images to score on (default: %(default)s)")
    command.add_argument(
        "--predictions",
        type=Path,
        metavar="FOLDER",
        help="score label images <ImageId>.png or .tif that were written before, such as <output>/labels of detect, "
        "instead of running a model",
    )
    _add_trained(command)

    command = _command(commands, pack, "write trained weights as a small file with its settings beside it, for sharing")
    command.add_argument("--weights", type=_trained, required=True, metavar="{last,PATH}", help="what to pack")
    command.add_argument("--output", type=Path, required=True, metavar="FILE.h5", help="the file to write")
    command.add_argument("--full-precision", action="store_true", help="keep float32 (default: half precision)")

    command = _command(commands, download, "fetch pretrained weights", configurable=False)
    command.add_argument(
        "what",
        nargs="*",
        type=_downloadable,
        default=["coco"],
        help="coco (default), imagenet (both ResNets), or dataset to be told where the images are",
    )
    return parser


def _command(
    commands: argparse._SubParsersAction, function, summary: str, configurable: bool = True
) -> argparse.ArgumentParser:
    """Adds a command with the options that all share, or all but `download`."""
    command = commands.add_parser(
        function.__name__,
        help=summary,
        description=f"{summary[0].upper()}{summary[1:]}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="presets:\n" + "\n".join(f"  {name:32} {preset.summary}" for name, preset in PRESETS.items())
        if configurable
        else DATASET_HELP,
    )
    command.set_defaults(command=function)
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    if configurable:
        command.add_argument(
            "--dataset",
            type=Path,
            default=Path("datasets/nucleus"),
            metavar="FOLDER",
            help="folder with stage1_train/<ImageId>/{images,masks} (default: %(default)s). --subset is train, val "
            "(the customary 25 of stage1_train) or the name of a folder in it",
        )
        command.add_argument(
            "--logs",
            type=Path,
            default=Path("logs"),
            metavar="FOLDER",
            help="folder of the training runs (default: %(default)s)",
        )
        command.add_argument(
            "--preset", choices=PRESETS, metavar="NAME", help="named settings, see below (default: the weights' own)"
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


def _trained(text: str) -> str:
    if text in (*DOWNLOADABLE, "none"):
        raise argparse.ArgumentTypeError(f"{text!r} has not learned nuclei; give 'last' or the file of a trained model")
    return text


def _downloadable(text: str) -> str:
    choices = (*DOWNLOADABLE, "dataset")
    if text not in choices:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(choices)}, received {text!r}")
    return text


def _dataset(root: Path, subset: str, preprocessing=None, **options: Any):
    from nucleus.dataset import NucleusDataset

    dataset = NucleusDataset(preprocessing=preprocessing)
    dataset.load_nucleus(root, subset, **options)
    dataset.prepare()
    return dataset


def _recipe(args: argparse.Namespace, weights: Path | None) -> Recipe:
    """Returns the configuration to start from: that of --preset, else the weights' own, else the default."""
    if args.preset is not None:
        return Recipe(args.preset)
    return (find_recipe(weights) if weights is not None else None) or Recipe()


def _training_recipe(args: argparse.Namespace, weights: Path | None) -> Recipe:
    """Returns the configuration of a training, --set and --steps included."""
    from nucleus.training import from_scratch_settings

    base = _recipe(args, weights)
    asked = dict(args.settings)
    if args.steps:
        asked["STEPS_PER_EPOCH"] = args.steps
    if args.weights == "none":
        asked = {**from_scratch_settings(make_config("training", base.preset, asked)), **asked}
    return Recipe(base.preset, {**base.settings, **asked})


def _inference_config(args: argparse.Namespace, weights: Path) -> NucleusConfig:
    base = _recipe(args, weights)
    return make_config("inference", base.preset, {**inference_settings(base.settings), **dict(args.settings)})


def _training_weights(args: argparse.Namespace) -> Path | None:
    """Returns the file that a training goes on from, if it does."""
    if args.weights in (*DOWNLOADABLE, "none"):
        return None
    return _last(args) if args.weights == "last" else existing_file(args.weights)


def _trained_weights(args: argparse.Namespace) -> Path:
    if args.weights is None:
        return shipped_weights()
    return _last(args) if args.weights == "last" else existing_file(args.weights)


def _last(args: argparse.Namespace) -> Path:
    return last_checkpoint(args.logs, dict(args.settings).get("NAME", NucleusConfig.NAME))


def _load_training_weights(model, choice: str, path: Path | None) -> None:
    from mrcnn.weights import download_coco

    if choice == "coco":
        model.load_weights(download_coco(), by_name=True, exclude=_COCO_HEADS)
    elif choice == "imagenet":
        model.load_weights(model.get_imagenet_weights(), by_name=True)
    elif path is not None:
        # A checkpoint of this very run is complete; another file may lack layers, which keep their weights then.
        model.load_weights(path, by_name=choice != "last")


def _new_folder(command: str) -> Path:
    return Path("results", "nucleus", f"{command}_{time.strftime('%Y%m%dT%H%M%S')}")


def _report_failures(failures: Sequence[str]) -> int:
    """Lists the inputs that failed; returns the exit status."""
    for failure in failures:
        print(f"nucleus: error: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
