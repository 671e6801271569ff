"""Time to detect an image: resizing, network, and what `detect` does with its output.

Prints one JSON object with three medians over all images, each image alone in its batch:

- `masks`: `MaskRCNN.detect` with the weights as they are: bool masks of image size, as the lineage returns them;
- `instances`: `MaskRCNN.detect_instances`, boxes with small masks: what the nucleus application uses;
- `full`: as `masks`, with the classifier biased so that every proposal is an object, so that the mask head works
  on as many detections as the settings allow. That is the dearest image there is, whatever the weights.

`seconds_per_image` is the median of `full`. How many objects were found stands beside each median. Every image runs
once before the clock starts.

    python benchmarks/detection.py
    python benchmarks/detection.py --dataset datasets/nucleus --weights mask_rcnn_nucleus.h5
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from common import add_network_options, load_dataset, make_parser, print_report, summarize, time_calls

from mrcnn.model import MaskRCNN
from nucleus.config import NucleusInferenceConfig, make_config

# Far above any logit, and small enough that scores stay finite.
OBJECT_BIAS = 1000.0


def make_detection_config(args: argparse.Namespace) -> NucleusInferenceConfig:
    """Returns the nucleus configuration, with every image resized to one square."""
    settings = {
        "IMAGE_RESIZE_MODE": "square",
        "IMAGE_MIN_DIM": args.size,
        "IMAGE_MAX_DIM": args.size,
        "IMAGE_MIN_SCALE": 0,
        "PRECISION": args.precision,
    }
    return make_config("inference", args.preset, settings)


def see_objects_everywhere(model: MaskRCNN) -> None:
    """Biases the classifier so that every proposal is an object of the first class."""
    bias = model.keras_model.get_layer("mrcnn_class_logits").bias
    values = keras.ops.convert_to_numpy(bias).copy()
    values[1] += OBJECT_BIAS
    bias.assign(values)


def measure(
    detect: Callable[[np.ndarray], Any], count: Callable[[Any], int], images: Sequence[np.ndarray], repeats: int
) -> dict[str, Any]:
    """Times `detect` on every image `repeats` times, after one uncounted round.

    Args:
        detect: Image -> what was found.
        count: What was found -> number of objects.
        images: uint8 `[H, W, 3]` each.
        repeats: Rounds over the images.

    Returns:
        The summary of the seconds, and the median number of objects.
    """
    counts = [count(detect(image)) for image in images]
    seconds = time_calls(detect, list(images) * repeats)
    return {**summarize(seconds), "median_detections": int(statistics.median(counts)), "most_detections": max(counts)}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    add_network_options(parser, repeats=1)
    args = parser.parse_args(arguments)

    config = make_detection_config(args)
    keras.utils.set_random_seed(args.seed)
    model = MaskRCNN("inference", config, model_dir=".")
    if args.weights:
        model.load_weights(args.weights)
    dataset = load_dataset(args)
    images = [dataset.load_image(image_id) for image_id in dataset.image_ids]

    def detect(image: np.ndarray) -> dict[str, np.ndarray]:
        return model.detect([image])[0]

    def found(result: dict[str, np.ndarray]) -> int:
        return len(result["scores"])

    real = measure(detect, found, images, args.repeats)
    instances = measure(lambda image: model.detect_instances([image])[0], len, images, args.repeats)
    see_objects_everywhere(model)
    full = measure(detect, found, images, args.repeats)
    results = {
        "seconds_per_image": full["median_seconds"],
        "masks": real,
        "instances": instances,
        "full": full,
        "images": len(images),
        "image_size": config.IMAGE_SHAPE[:2].tolist(),
        "proposals": config.POST_NMS_ROIS_INFERENCE,
        "detections_allowed": config.DETECTION_MAX_INSTANCES,
        "preset": args.preset,
        "precision": config.PRECISION,
        "weights": args.weights.name if args.weights else "random",
    }
    print_report("detection", results)


if __name__ == "__main__":
    main()
