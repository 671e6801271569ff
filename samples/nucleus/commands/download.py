"""`nucleus download`."""

from __future__ import annotations

import argparse

from mrcnn.backbones import BACKBONES
from nucleus.datasets.source import HOW_TO_OBTAIN
from nucleus.models.network import PUBLISHED_WEIGHTS
from trainkit.imagenet import IMAGENET_NETWORKS, SHIPPED

SUMMARY = "fetch pretrained weights"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    command.epilog = HOW_TO_OBTAIN
    command.add_argument(
        "what",
        nargs="*",
        type=_downloadable,
        default=["coco"],
        help=f"coco (default), imagenet (ResNet-50 and -101), one of {', '.join(IMAGENET_NETWORKS)} (ImageNet), or "
        "dataset to show where to get the images",
    )


def run(args: argparse.Namespace) -> int:
    """Fetches pretrained weights, or shows where to get the images; see `nucleus download --help`."""
    from mrcnn.weights import download_coco
    from trainkit.imagenet import download_imagenet

    for what in args.what:
        if what == "dataset":
            print(HOW_TO_OBTAIN)
        elif what == "coco":
            print(download_coco())
        else:
            # What is shipped needs no download.
            begun = [each.imagenet for each in BACKBONES.values() if each.imagenet not in (None, *SHIPPED)]
            for network in begun if what == "imagenet" else [what]:
                print(download_imagenet(network))
    return 0


def _downloadable(text: str) -> str:
    choices = (*PUBLISHED_WEIGHTS, *IMAGENET_NETWORKS, "dataset")
    if text not in choices:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(choices)}, received {text!r}")
    return text
