"""`nucleus export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from nucleus.commands import options, values
from nucleus.exporting.formats import FORMATS
from nucleus.models.loading import resolve
from nucleus.models.registry import NETWORKS
from nucleus.models.unet import UNetModel
from nucleus.models.weights import LAST, SHIPPED
from nucleus.quiet import import_keras

SUMMARY = "write a trained network, --set included, in a format that other programs run"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    options.add_configuration(command, tuple(NETWORKS))
    command.add_argument(
        "--weights",
        type=values.trained,
        metavar="{shipped,last,PATH}",
        help="the shipped weights, the last checkpoint in --logs, or a file (default: shipped)",
    )
    command.add_argument(
        "--format",
        choices=FORMATS,
        default="onnx",
        help="; ".join(f"{name}: {files}" for name, files in FORMATS.items()) + " (default: %(default)s)",
    )
    command.add_argument(
        "--graph-only",
        action="store_true",
        help="onnx: without the weights, to stand beside the weights file (MODEL.onnx beside MODEL.h5) and read it",
    )
    command.add_argument("--output", type=Path, required=True, metavar="PATH", help="the file or new folder to write")


def run(args: argparse.Namespace) -> int:
    """Exports a network; see `nucleus export --help`."""
    settings, kind = dict(args.settings), args.model
    presets = (None, *UNetModel.presets)
    if kind is None and args.preset in presets and args.weights in (None, SHIPPED, LAST):
        # Of all shipped weights and all runs, those of a U-Net are meant; a file is what it is.
        kind = UNetModel.kind
    chosen = resolve(args.weights, model=kind, preset=args.preset, settings=settings, model_dir=args.logs)
    import_keras()
    from nucleus.exporting.export import export

    options_of_model = {"kind": kind, "preset": args.preset, "settings": settings}
    print(export(chosen.path, args.output, args.format, **options_of_model, graph_only=args.graph_only))
    return 0
