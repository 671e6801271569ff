"""`nucleus detect`."""

from __future__ import annotations

import argparse

from nucleus.commands import options
from nucleus.commands.arguments import chosen_planes, output_folder, report_failures, wanted_images, wanted_model
from nucleus.prediction.writers import default_formats, require_packages

_DEFAULT_OUTPUT = (
    "FOLDER_nuclei beside the folder of the images, IMAGE_nuclei beside a single one; for images in several places and "
    "of a data set results/nucleus/detect_<time>"
)

SUMMARY = "find nuclei, write label images, overlays and tables"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    options.add_dataset(command)
    options.add_pixel_size(command)
    options.add_configuration(command)
    options.add_scale(command)
    options.add_image_files(command)
    options.add_recursive(command)
    options.add_division(command, "without IMAGE: images of the dataset (default: stage1_test)", "without IMAGE:")
    options.add_formats(command)
    options.add_trained(command, _DEFAULT_OUTPUT)
    options.add_overwrite(command, resume=True)
    options.add_cluster(command)


def run(args: argparse.Namespace) -> int:
    """Finds nuclei in images; see `nucleus detect --help`."""
    options.require_images(args)
    require_packages(args.write)
    chosen = wanted_model(args, fastest=True)
    from nucleus.prediction.cluster import wanted_cluster
    from nucleus.prediction.detection import detect
    from nucleus.prediction.inputs import collect_images, default_folder
    from nucleus.prediction.results import Results

    failures: list[str] = []
    if args.recursive and not args.images:
        raise ValueError("--recursive is for folders of images. Received: --recursive and no IMAGE.")
    if args.images and args.fold is not None:
        raise ValueError("--fold takes images of the data set. Received: --fold and image files.")
    if args.images:
        planes = chosen_planes(args, chosen.config)
        dataset, failures = collect_images(args.images, planes, args.pixel_size, args.recursive)
    else:
        dataset, _ = wanted_images(
            args,
            chosen.path,
            chosen.config,
            pixel_size=args.pixel_size,
            default="stage1_test",
            own="none",
            require_masks=False,
            failures=failures,
        )
    if dataset.num_images == 0:
        return report_failures(failures)
    args.output = args.output or (default_folder(args.images) if args.images else None)
    formats = default_formats(args.label_format, args.write)
    workers = wanted_cluster(args.workers, args.scheduler)
    with Results(output_folder(args, "detect"), args.overwrite, args.resume) as results, workers as cluster:
        done = detect(chosen.load(), dataset, results, formats, cluster=cluster)
    done.failures[:0] = failures
    print(done)
    return report_failures(done.failures)
