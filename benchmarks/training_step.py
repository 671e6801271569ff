"""Time of one training step an image: forward, five losses, backward and update of all layers.

Prints one JSON object; `seconds_per_image` is the median step divided by the batch. The batches are real images,
loaded and augmented before the clock starts: `data_loading.py` times that part. Two steps run first, uncounted.
`floor_of_step` compares a step with its operations at the rate at which this machine multiplies matrices.

    python benchmarks/training_step.py
    python benchmarks/training_step.py --dataset datasets/nucleus --weights mask_rcnn_nucleus.h5
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

import keras
import numpy as np
from common import (
    add_network_options,
    count_operations,
    cpu_seconds,
    fraction_of_floor,
    load_dataset,
    make_parser,
    print_report,
    summarize,
    time_calls,
)
from detection import STAGES

from mrcnn.data import DataGenerator
from mrcnn.model import MaskRCNN
from nucleus.augmentation.augmenters import default_augmentation
from nucleus.models.mask_rcnn import NucleusConfig
from nucleus.models.registry import make_config

WARM_UP_STEPS = 2


def make_training_config(args: argparse.Namespace) -> NucleusConfig:
    """Returns the nucleus configuration with the size, batch and precision of the command line."""
    settings = {
        "IMAGES_PER_GPU": args.batch,
        "IMAGE_MIN_DIM": args.size,
        "IMAGE_MAX_DIM": args.size,
        "PRECISION": args.precision,
    }
    return make_config("training", args.preset, settings)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    add_network_options(parser, repeats=10)
    parser.add_argument("--batch", type=int, default=2, help="images a step (default 2)")
    parser.add_argument("--layers", default="all", help="what learns, as MaskRCNN.train takes it (default all)")
    args = parser.parse_args(arguments)

    config = make_training_config(args)
    keras.utils.set_random_seed(args.seed)
    model = MaskRCNN("training", config, model_dir=".")
    if args.weights:
        model.load_weights(args.weights, by_name=True)
    model.set_trainable(args.layers, verbose=0)
    model.compile(config.LEARNING_RATE, config.LEARNING_MOMENTUM)
    generator = DataGenerator(
        load_dataset(args),
        config,
        augmentation=default_augmentation(),
        seed=args.seed,
        steps=WARM_UP_STEPS + args.repeats,
        workers=0,
    )
    batches = [generator.batch(0, index) for index in range(len(generator))]

    losses, used = [], []

    def step(batch) -> None:
        losses.append(float(model.keras_model.train_on_batch(batch)[0]))
        used.append(cpu_seconds())

    seconds = time_calls(step, batches)
    computed = (used[-1] - used[WARM_UP_STEPS - 1]) / args.repeats
    # The backward pass computes the gradients of the maps and of the weights: twice the forward pass.
    forward = count_operations(model.keras_model, batches[0], STAGES)
    operations = {stage: 3 * count for stage, count in forward.items()}
    floor = fraction_of_floor(operations, args.precision, statistics.median(seconds[WARM_UP_STEPS:]), computed)
    summary = summarize(seconds[WARM_UP_STEPS:], config.BATCH_SIZE)
    results = {
        "seconds_per_image": summary["median_seconds"],
        **summary,
        "cpu_seconds_per_image": round(computed / config.BATCH_SIZE, 5),
        "floor_of_step": floor,
        "first_step_seconds": round(seconds[0], 3),
        "batch": config.BATCH_SIZE,
        "layers": args.layers,
        "image_size": config.IMAGE_SHAPE[:2].tolist(),
        "preset": args.preset,
        "precision": config.PRECISION,
        "weights": args.weights.name if args.weights else "random",
        "loss_is_finite": bool(np.all(np.isfinite(losses))),
    }
    print_report("training_step", results)


if __name__ == "__main__":
    main()
