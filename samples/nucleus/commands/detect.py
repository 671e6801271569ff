"""`nucleus detect`."""

from __future__ import annotations

import argparse

from nucleus.commands import options
from nucleus.commands.arguments import base_recipe, chosen_planes, image_source, model_weights, new_folder
from nucleus.commands.status import report_failures
from nucleus.datasets.division import select_images
from nucleus.models.registry import detection_config
from nucleus.quiet import import_keras

SUMMARY = "find nuclei, write label images, overlays and tables"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds the options."""
    options.add_dataset(command)
    options.add_planes(command)
    options.add_pixel_size(command)
    options.add_configuration(command)
    options.add_image_files(command)
    options.add_division(command, "without IMAGE: images of the dataset (default: stage1_test)", "without IMAGE:")
    options.add_label_format(command)
    options.add_trained(command)


def run(args: argparse.Namespace) -> int:
    """Finds nuclei in images; see `nucleus detect --help`."""
    weights = model_weights(args)
    if weights is not None:
        import_keras()
    from nucleus.models.loading import model_of
    from nucleus.prediction.detection import collect_images, detect
    from nucleus.prediction.writers import default_formats

    config = detection_config(base_recipe(args, weights), dict(args.settings))
    failures: list[str] = []
    if args.images and args.fold is not None:
        raise ValueError("--fold takes images of the data set. Received: --fold and image files.")
    if args.images:
        dataset, failures = collect_images(args.images, chosen_planes(args), args.pixel_size)
    else:
        dataset, _ = select_images(
            image_source(args, planes=chosen_planes(args), pixel_size=args.pixel_size),
            weights,
            subset=args.subset,
            fold=args.fold,
            folds=args.folds,
            seed=config.SEED,
            default="stage1_test",
            own="none",
            require_masks=False,
            failures=failures,
        )
    if dataset.num_images == 0:
        return report_failures(failures)
    model, output = model_of(weights, config), args.output or new_folder("detect")
    done = detect(model, dataset, output, default_formats(args.label_format))
    done.failures[:0] = failures
    print(done)
    return report_failures(done.failures)
