"""The command line: parses, and hands over to a module of `nucleus.commands`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from nucleus.commands import (
    compare,
    convert,
    detect,
    download,
    ensemble,
    evaluate,
    measure,
    modality,
    options,
    pack,
    reproduce,
    search,
    train,
    tune,
)
from nucleus.version import __version__

_COMMANDS = (
    train,
    detect,
    measure,
    evaluate,
    compare,
    ensemble,
    tune,
    search,
    reproduce,
    pack,
    convert,
    modality,
    download,
)
_EPILOG = """\
examples:
  nucleus detect my_images/
  nucleus measure results/corrected my_images/ --output=results/measured
  nucleus train --weights=coco --preset=resnet101-two-stage --set IMAGES_PER_GPU=4
  nucleus train --model=unet --weights=imagenet
  nucleus train --weights=last
  nucleus evaluate --weights=last --subset=val
  nucleus evaluate --predictions=results/a --predictions=other=results/b --report=results/report
  nucleus detect --dataset=datasets/nucleus --subset=stage1_test --weights=last"""


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line; its result has the function to call as `run`."""
    parser = argparse.ArgumentParser(
        prog="nucleus",
        description="Finds and outlines the nuclei in microscopy images with Mask R-CNN and U-Nets.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nucleus {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        command = subparsers.add_parser(
            module.__name__.rpartition(".")[2],
            help=module.SUMMARY,
            description=f"{module.SUMMARY[0].upper()}{module.SUMMARY[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=module.run)
        options.add_debug(command)
        module.add_options(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        0 if all went well, 1 if something failed (named on stderr), 130 after Ctrl-C. Wrong usage ends with
        SystemExit(2).
    """
    args = make_parser().parse_args(argv)
    logging.basicConfig(format="nucleus: %(levelname)s: %(message)s")
    # It warns of a graph for every image size, which is how detection is meant to run.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    from trainkit.download import DownloadError

    try:
        return args.run(args)
    except KeyboardInterrupt:
        print("nucleus: interrupted", file=sys.stderr)
        return 130
    except (ValueError, OSError, DownloadError) as error:
        if args.debug:
            raise
        print(f"nucleus: error: {error}", file=sys.stderr)
        return 1
