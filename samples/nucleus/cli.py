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
    export,
    finetune,
    measure,
    modality,
    options,
    pack,
    reproduce,
    search,
    train,
    tune,
)
from nucleus.commands.parsing import CommandParser, UsageError, suggest
from nucleus.version import __version__

_COMMANDS = (
    train,
    finetune,
    detect,
    measure,
    evaluate,
    compare,
    ensemble,
    tune,
    search,
    reproduce,
    pack,
    export,
    convert,
    modality,
    download,
)
_NAMES = tuple(module.__name__.rpartition(".")[2] for module in _COMMANDS)
_EPILOG = """\
examples:
  nucleus detect my_images/
  nucleus measure results/corrected my_images/ --output=results/measured
  nucleus finetune my_set/
  nucleus train --weights=coco --preset=resnet101-two-stage --set IMAGES_PER_GPU=4
  nucleus train --model=unet --weights=imagenet
  nucleus train --weights=last
  nucleus evaluate --weights=last --subset=val
  nucleus evaluate --predictions=results/a --predictions=other=results/b --report=results/report
  nucleus detect --dataset=datasets/nucleus --subset=stage1_test --weights=last"""


def make_parser() -> argparse.ArgumentParser:
    """Returns the parser of the command line; its result has the function to call as `run`."""
    parser = CommandParser(
        prog="nucleus",
        description="Finds and outlines the nuclei in microscopy images with Mask R-CNN and U-Nets.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nucleus {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, module in zip(_NAMES, _COMMANDS, strict=True):
        command = subparsers.add_parser(
            name,
            help=module.SUMMARY,
            description=f"{module.SUMMARY[0].upper()}{module.SUMMARY[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.set_defaults(run=module.run)
        options.add_debug(command)
        module.add_options(command)
        command.set_defaults(command=command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        argv: Arguments without the program's name; those of the process by default.

    Returns:
        0 if all went well, 1 if something failed (named on stderr), 130 after Ctrl-C. Wrong usage ends with
        SystemExit(2).
    """
    given = sys.argv[1:] if argv is None else list(argv)
    parser = make_parser()
    if given and not given[0].startswith("-") and given[0] not in _NAMES:
        parser.error(f"unknown command {given[0]!r}. {suggest(given[0], _NAMES)}")
    args = parser.parse_args(given)
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
        if isinstance(error, UsageError):
            args.command.error(str(error))
        print(f"nucleus: error: {error}", file=sys.stderr)
        return 1
