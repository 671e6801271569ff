"""Time of a U-Net's forward pass and training step, without reading images and without post-processing.

Prints one JSON object; `seconds_per_image` is the median forward pass.

- `inference`: probabilities of one image of `--size` pixels a side;
- `training_step`: forward, loss, backward and update of all layers, divided by the images of the batch. Its windows are
  of the shipped images, loaded and augmented before the clock starts. Two steps run first, uncounted.

`cpu_seconds` are those of all cores, which say more where other programs run. `floor` compares each with the operations
of encoder and decoder at the rate at which this machine multiplies matrices; a step has three times those of a forward
pass.

    python benchmarks/unet_network.py
    python benchmarks/unet_network.py --weights nucleus_unet --precision mixed_bfloat16
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from common import count_operations, fraction_of_floor, load_dataset, make_parser, positive, print_report, timed

from nucleus.augmentation.augmenters import make_augmentation
from nucleus.models.loading import resolve
from unet.architecture import DECODER_LAYERS
from unet.data import TrainingBatches

WARM_UP_STEPS = 2
STAGES = {"decoder": DECODER_LAYERS, "encoder": ".*"}


def measure(
    function: Callable[[Any], Any],
    arguments: Sequence[Any],
    images: int,
    operations: dict[str, float],
    precision: str,
) -> dict[str, Any]:
    """Times a function on each argument after some uncounted ones.

    Args:
        function: Function that is timed.
        arguments: Its arguments, of which the first `WARM_UP_STEPS` are not counted.
        images: Images in each argument.
        operations: Operations of each stage for one image.
        precision: Precision of the network.

    Returns:
        Medians for an image, in seconds and seconds of all cores, and the floor.
    """
    pairs = [timed(lambda argument=argument: function(argument)) for argument in arguments][WARM_UP_STEPS:]
    seconds, computed = (statistics.median(column) / images for column in zip(*pairs, strict=True))
    return {
        "median_seconds": round(seconds, 5),
        "cpu_seconds": round(computed, 5),
        "runs": len(pairs),
        "floor": fraction_of_floor(operations, precision, seconds, computed),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    parser.add_argument("--weights", default="nucleus_light", help="weights of a U-Net (default: %(default)s)")
    parser.add_argument(
        "--size", type=positive, default=512, help="image side, a multiple of 32 (default: %(default)s)"
    )
    parser.add_argument("--batch", type=positive, default=4, help="windows of a training step (default: %(default)s)")
    parser.add_argument("--repeats", type=positive, default=10, help="timed repetitions (default: %(default)s)")
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="float32")
    args = parser.parse_args(arguments)

    settings = {"PRECISION": args.precision, "IMAGE_SIZE": args.size, "BATCH_SIZE": args.batch}
    model = resolve(args.weights, model="unet", settings=settings).load_bare()
    network = model.network
    rng = np.random.default_rng(args.seed)
    image = rng.integers(0, 256, (args.size, args.size, 3), np.uint8)
    operations = count_operations(network.keras_model, image[None].astype(np.float32), STAGES)
    times = WARM_UP_STEPS + args.repeats
    inference = measure(network.predict, [[image]] * times, 1, operations, args.precision)

    network.config = model.training_config.update({"STEPS_PER_EPOCH": times, "DATA_WORKERS": 0})
    augmentation = make_augmentation(network.config.AUGMENTATION, mirror=True)
    generator = TrainingBatches(load_dataset(args), network.config, augmentation)
    batches = [generator.batch(0, index) for index in range(times)]
    network.compile()
    losses: list[float] = []

    def step(batch: tuple[np.ndarray, np.ndarray]) -> None:
        losses.append(float(network.keras_model.train_on_batch(*batch)[0]))

    learnt = {stage: 3 * count for stage, count in operations.items()}
    training = measure(step, batches, args.batch, learnt, args.precision)
    results = {
        "seconds_per_image": inference["median_seconds"],
        "inference": inference,
        "training_step": training,
        "loss_is_finite": bool(np.all(np.isfinite(losses))),
        "weights": args.weights,
        "image_size": [args.size, args.size],
        "batch": args.batch,
        "precision": args.precision,
    }
    print_report("unet_network", results)


if __name__ == "__main__":
    main()
