"""`nucleus pack`."""

from __future__ import annotations

import argparse
from pathlib import Path

from nucleus.commands import options, values
from nucleus.commands.arguments import wanted_model
from nucleus.models.registry import NETWORKS
from nucleus.models.weights import WITHOUT_KERAS

SUMMARY = "write trained weights as a small file with its settings, --set included, beside it"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    options.add_configuration(command, tuple(NETWORKS))
    command.add_argument(
        "--weights", type=values.trained, required=True, metavar="{shipped,last,PATH}", help="weights to pack"
    )
    command.add_argument("--output", type=Path, required=True, metavar="FILE.h5", help="the file to write")
    command.add_argument("--full-precision", action="store_true", help="keep float32 (default: half precision)")


def run(args: argparse.Namespace) -> int:
    """Makes a small file of trained weights; see `nucleus pack --help`."""
    chosen = wanted_model(args, network=True)
    if chosen.recipe is None or chosen.path.suffix in WITHOUT_KERAS:
        raise ValueError(f"{chosen.path}: pack takes the weights of a network, an .h5 file.")
    from nucleus.training.packing import pack

    packed = pack(chosen.path, args.output, chosen.recipe, args.full_precision)
    print(f"{packed}: {packed.stat().st_size / 2**20:.1f} MB")
    return 0
