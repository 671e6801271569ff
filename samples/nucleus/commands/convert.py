"""`nucleus convert`."""

from __future__ import annotations

import argparse
from pathlib import Path

from nucleus.commands import options, values
from nucleus.commands.arguments import image_source

SUMMARY = "write a data set as label images or as COCO JSON"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    options.add_dataset(command)
    command.add_argument("--subset", default="all", help="images to write (default: %(default)s)")
    command.add_argument("--to", choices=("labels", "coco"), required=True, help="annotations to write beside images/")
    command.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="a new folder")
    command.add_argument(
        "--fit", type=values.positive, metavar="SIDE", help="scale and pad images to SIDE x SIDE pixels (512 for GlaS)"
    )


def run(args: argparse.Namespace) -> int:
    """Writes a data set as label images or as COCO JSON; see `nucleus convert --help`."""
    from nucleus.datasets.convert import convert

    dataset = image_source(args).load(args.subset, fit=args.fit)
    convert(dataset, args.to, args.output)
    print(f"{dataset.num_images} images: {args.output}")
    return 0
