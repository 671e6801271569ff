"""`nucleus measure`."""

from __future__ import annotations

import argparse
from pathlib import Path

from nucleus.commands import options
from nucleus.commands.arguments import chosen_planes, output_folder, report_failures
from nucleus.prediction.writers import TABLE_FORMATS, default_formats, require_packages

SUMMARY = "measure the nuclei of label images, ROIs or GeoJSON, such as corrected ones, and write detect's tables"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    command.add_argument(
        "labels",
        type=Path,
        metavar="LABELS",
        help="folder of label images <image>.png or .tif (also <image>_masks, _cp_masks, _labels) by any program, of "
        "ImageJ's ROIs <image>.zip, _rois.zip or .roi, QuPath's <image>.geojson, Cellpose's <image>_seg.npy or "
        "labelme's <image>.json; or the folder that detect wrote; or the file of one IMAGE",
    )
    command.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="image files, and folders of them")
    options.add_recursive(command)
    options.add_planes(command)
    options.add_pixel_size(command)
    options.add_formats(command, TABLE_FORMATS)
    options.add_output(command, "folder of the results")
    options.add_overwrite(command)
    options.add_cluster(command)


def run(args: argparse.Namespace) -> int:
    """Measures nuclei of files; see `nucleus measure --help`."""
    from nucleus.prediction.inputs import collect_images
    from nucleus.prediction.measuring import measure_labels

    require_packages(args.write)
    dataset, failures = collect_images(args.images, chosen_planes(args), args.pixel_size, args.recursive)
    if dataset.num_images == 0:
        return report_failures(failures)
    formats = default_formats(args.label_format, args.write)
    output = output_folder(args, "measure")
    workers = {"workers": args.workers, "scheduler": args.scheduler}
    done = measure_labels(args.labels, dataset, output, formats=formats, overwrite=args.overwrite, **workers)
    done.failures[:0] = failures
    print(done)
    return report_failures(done.failures)
