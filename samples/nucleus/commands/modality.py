"""`nucleus modality`."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from nucleus.commands import options, values
from nucleus.commands.arguments import image_source
from nucleus.datasets.layouts.base import UNKNOWN_MODALITY
from nucleus.datasets.layouts.tables import CLASSES_FILE, write_modalities

SUMMARY = "group images by their looks and write classes.csv, for data sets without one"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    options.add_dataset(command)
    command.add_argument("--subset", default="all", help="images to group (default: %(default)s)")
    command.add_argument(
        "--clusters", type=values.positive, default=3, metavar="K", help="number of groups (default: %(default)s)"
    )
    command.add_argument("--seed", type=values.number, default=0, help="seed of the clustering (default: %(default)s)")
    command.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"the file to write, which must not exist yet (default: {CLASSES_FILE} in the data set, where every "
        "command finds it; name any other file with --classes)",
    )


def run(args: argparse.Namespace) -> int:
    """Estimates the modality of every image; see `nucleus modality --help`."""
    from nucleus.datasets.modality import agreement, estimate_modalities

    output = args.output or (args.dataset if args.dataset.is_dir() else args.dataset.parent) / CLASSES_FILE
    if output.exists():
        raise ValueError(f"{output}: already exists; name another file (--output)")
    dataset = image_source(args).load(args.subset, require_masks=False)
    estimated = estimate_modalities(dataset, args.clusters, args.seed)
    write_modalities(output, estimated)
    for name, count in Counter(estimated.values()).most_common():
        print(f"{count:6} {name}")
    known = {info["id"]: info["modality"] for info in dataset.image_info if info["modality"] != UNKNOWN_MODALITY}
    if known:
        found = agreement([estimated[name] for name in known], list(known.values()))
        print(
            f"Against the {len(set(known.values()))} modalities known of {len(known)} images: purity "
            f"{found.purity:.3f}, adjusted Rand index {found.adjusted_rand:.3f}"
        )
    print(f"Modalities: {output}")
    return 0
