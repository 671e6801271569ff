"""`nucleus detect`."""

from __future__ import annotations

import argparse

from nucleus.commands import options
from nucleus.commands.division import load_images
from nucleus.commands.selection import inference_config, new_folder, trained_weights, weights_recipe
from nucleus.commands.status import report_failures
from nucleus.quiet import import_keras

SUMMARY = "find nuclei, write label images, overlays and tables"


def add_options(command: argparse.ArgumentParser) -> None:
    """Adds what it takes."""
    options.add_dataset(command)
    options.add_configuration(command)
    options.add_image_files(command)
    options.add_division(command, "without IMAGE: images of the dataset (default: stage1_test)", "without IMAGE:")
    options.add_label_format(command)
    options.add_trained(command)


def run(args: argparse.Namespace) -> int:
    """Finds nuclei in images; see `nucleus detect --help`."""
    weights = trained_weights(args)
    if weights is not None:
        import_keras()
    from nucleus.models.inference import load_model
    from nucleus.prediction.detection import collect_images, detect
    from nucleus.prediction.writers import default_formats

    config = inference_config(weights_recipe(args, weights), args.settings)
    failures: list[str] = []
    if args.images and args.fold is not None:
        raise ValueError("--fold takes images of the data set. Received: --fold and image files.")
    if args.images:
        dataset, failures = collect_images(args.images)
    else:
        dataset, _ = load_images(
            args, weights, config.SEED, "stage1_test", own="none", require_masks=False, failures=failures
        )
    if dataset.num_images == 0:
        return report_failures(failures)
    model = load_model(weights, config, args.logs)
    done = detect(model, dataset, args.output or new_folder("detect"), default_formats(args.label_format))
    done.failures[:0] = failures
    print(done)
    return report_failures(done.failures)
