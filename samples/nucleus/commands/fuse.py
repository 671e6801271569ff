"""`nucleus ensemble fuse`."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from nucleus.commands import options
from nucleus.commands.arguments import image_source

SUMMARY = "learn to give a Mask R-CNN's objects the edges of a U-Net, as one model"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    options.add_dataset(command)
    options.add_pixel_size(command)
    command.add_argument(
        "--subset", default="val", help="images with masks to fit it to, which no model was trained on (default: val)"
    )
    for name, what in (("objects", "finds objects, a mask_rcnn"), ("pixels", "rates pixels, a unet")):
        command.add_argument(
            f"--{name}",
            required=True,
            metavar="MODEL",
            help=f"the model that {what}: its weights file, or the name of shipped weights",
        )
    options.add_repeated(
        command,
        "--out-of-fold",
        _pair,
        "OBJECTS,PIXELS",
        "weights of both kinds of a cross-validation (nucleus train --fold) that held out the same fold; repeat for "
        "every fold. Each image is then looked at by the two that were not trained on it, instead of the models above",
    )
    options.add_settings(command)
    command.add_argument("--output", type=Path, required=True, metavar="FILE.json", help="the file to write")


def run(args: argparse.Namespace) -> int:
    """Fits a fusion; see `nucleus ensemble fuse --help`."""
    from nucleus.datasets.division import require_unseen
    from nucleus.ensemble.boosting import import_lightgbm
    from nucleus.ensemble.fusion.held_out import models_out_of_fold
    from nucleus.ensemble.fusion.model import FusionModel
    from nucleus.models.loading import load_model, resolve
    from nucleus.models.registry import make_config
    from nucleus.models.weights import existing_file
    from nucleus.quiet import import_keras
    from trainkit.files import require_writable

    # A missing package is reported before models run for minutes.
    import_lightgbm()
    require_writable(args.output.parent)
    for path in itertools.chain.from_iterable(args.out_of_fold):
        existing_file(path)
    members = {"OBJECTS": args.objects, "PIXELS": args.pixels}
    config = make_config("inference", settings={**dict(args.settings), **members}, model=FusionModel.kind)
    source = image_source(args, pixel_size=args.pixel_size)
    dataset = source.load(args.subset)
    images = source.describe(args.subset, dataset.num_images)
    print(f"Fitting to {images}")
    ids = [info["id"] for info in dataset.image_info]
    if not args.out_of_fold:
        for member in members.values():
            path = resolve(member).path
            if path is not None:
                require_unseen(path, ids, "Give the weights of every fold with --out-of-fold")
    import_keras()
    model = FusionModel.begin(config, load_model)
    model.notes = {"fitted_to": images}
    model.out_of_fold = models_out_of_fold(args.out_of_fold, ids) if args.out_of_fold else {}
    history = model.fit(dataset, None)
    model.save(args.output)
    print(_table(history.logs))
    about = model.fusion.about
    print(
        f"\nmAP out of fold {about['mAP']:.3f}, of {args.objects} {about['objects']:.3f}, of {args.pixels} "
        f"{about['pixels']:.3f}\nLeast predicted IoU {model.fusion.ensemble.rules.threshold:g}: {args.output}"
    )
    return 0


def _table(logs) -> str:
    import pandas as pd

    table = pd.DataFrame(logs)
    table.index = pd.RangeIndex(1, len(table) + 1, name="fold")
    return table.round(3).to_string()


def _pair(text: str) -> tuple[Path, Path]:
    parts = [Path(part) for part in text.split(",")]
    if len(parts) != 2:
        raise argparse.ArgumentTypeError(f"expected OBJECTS,PIXELS, two weights files. Received: {text!r}")
    return parts[0], parts[1]
