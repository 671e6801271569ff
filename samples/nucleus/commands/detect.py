"""`nucleus detect`."""

from __future__ import annotations

import argparse

from nucleus.commands import options
from nucleus.commands.arguments import chosen_planes, new_folder, wanted_images, wanted_model
from nucleus.commands.status import report_failures
from nucleus.datasets.fingerprint import sha256
from nucleus.prediction.formats import require_packages

SUMMARY = "find nuclei, write label images, overlays and tables"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    options.add_dataset(command)
    options.add_planes(command)
    options.add_pixel_size(command)
    options.add_configuration(command)
    options.add_scale(command)
    options.add_image_files(command)
    options.add_division(command, "without IMAGE: images of the dataset (default: stage1_test)", "without IMAGE:")
    options.add_formats(command)
    options.add_trained(command)


def run(args: argparse.Namespace) -> int:
    """Finds nuclei in images; see `nucleus detect --help`."""
    options.require_images(args)
    require_packages(args.write)
    weights, config = wanted_model(args)
    from nucleus.models.loading import model_of
    from nucleus.prediction.detection import collect_images, detect
    from nucleus.prediction.large import detect_large, split_large
    from nucleus.prediction.writers import default_formats

    failures: list[str] = []
    if args.images and args.fold is not None:
        raise ValueError("--fold takes images of the data set. Received: --fold and image files.")
    if args.images:
        dataset, failures = collect_images(args.images, chosen_planes(args, config), args.pixel_size)
    else:
        dataset, _ = wanted_images(
            args,
            weights,
            config,
            pixel_size=args.pixel_size,
            default="stage1_test",
            own="none",
            require_masks=False,
            failures=failures,
        )
    if dataset.num_images == 0:
        return report_failures(failures)
    model, output = model_of(weights, config), args.output or new_folder("detect")
    dataset, large = split_large(dataset, config)
    done = detect(model, dataset, output, default_formats(args.label_format, args.write))
    done.failures[:0] = failures
    if large.num_images:
        identity = "" if weights is None else sha256(weights)
        lines, failed = detect_large(model, large, output, identity)
        print(*lines, sep="\n")
        done.failures += failed
    print(done)
    return report_failures(done.failures)
