"""Time to detect an image: resizing, network, and what `detect` does with its output.

Prints one JSON object with three medians over all images, each image alone in its batch:

- `typical`: `MaskRCNN.detect` with bool masks of image size, as the lineage returns them. The classifier is biased
  image by image so that, whatever the weights, an image gets as many detections as it has nuclei;
- `instances`: the same with `MaskRCNN.detect_instances`, boxes with small masks: what the nucleus application uses;
- `full`: as `typical`, with the classifier biased so that every proposal is an object, so that the mask head works
  on as many detections as the settings allow. That is the dearest image there is.

`floor_of_full` compares the last with the operations of the network's stages at the rate at which this machine
multiplies matrices. `seconds_per_image` is the median of `typical`. How many objects were found
stands beside each median, and `biases` holds the bias of each image by its id, for giving another program the same
work. Every image runs once before the clock starts.

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

from mrcnn import boxes as box_ops
from mrcnn import utils
from mrcnn.model import MaskRCNN
from nucleus.models.mask_rcnn import NucleusInferenceConfig
from nucleus.models.registry import make_config

# Stages of the network by the names of their layers.
STAGES = {"rpn": "rpn_.*", "box_head": "mrcnn_(class|bbox).*", "mask_head": "mrcnn_mask.*", "backbone": ".*"}
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


class BiasedModel:
    """A model whose classifier can be made to see more or fewer objects.

    Args:
        model: In inference mode, with two classes.
    """

    def __init__(self, model: MaskRCNN):
        self.model = model
        self._bias = model.keras_model.get_layer("mrcnn_class_logits").bias
        self._start = keras.ops.convert_to_numpy(self._bias).copy()

    def shift(self, amount: float) -> None:
        """Adds to the logit of the object class, in place of what was added before."""
        self._bias.assign(self._start + np.array([0, amount], np.float32))

    def shift_for(self, image: np.ndarray, wanted: int) -> float:
        """Returns the shift under which an image has `wanted` detections, or as many as there can be.

        Shifting the logit changes which proposals are objects but not their order, so suppression keeps a prefix of
        what it keeps of all.
        """
        config = self.model.config
        molded, metas, windows = self.model.mold_inputs([image])
        inputs = (molded, metas, self.model.get_anchors(molded.shape[1:])[None])
        _, probabilities, deltas, _, proposals, *_ = self.model.keras_model(inputs, training=False)
        probabilities, deltas, proposals = (
            keras.ops.convert_to_numpy(x)[0] for x in (probabilities, deltas, proposals)
        )
        margins = np.log(probabilities[:, 1] + 1e-30) - np.log(probabilities[:, 0] + 1e-30)
        moved = np.array(box_ops.decode(proposals, deltas[:, 1] * np.asarray(config.BBOX_STD_DEV, np.float32)))
        window = utils.norm_boxes(windows[0], molded.shape[1:3])
        moved = np.clip(moved, window[[0, 1, 0, 1]], window[[2, 3, 2, 3]])
        used = np.flatnonzero((proposals != 0).any(axis=1))
        kept = used[utils.non_max_suppression(moved[used], margins[used], config.DETECTION_NMS_THRESHOLD)]
        ordered = np.sort(margins[kept])[::-1]
        last = min(wanted, config.DETECTION_MAX_INSTANCES, len(ordered) - 1)
        return float(-(ordered[last - 1] + ordered[last]) / 2)


def measure(
    biased: BiasedModel,
    detect: Callable[[np.ndarray], Any],
    count: Callable[[Any], int],
    images: Sequence[np.ndarray],
    shifts: Sequence[float],
    repeats: int,
) -> dict[str, Any]:
    """Times `detect` on every image `repeats` times, after one uncounted round.

    Args:
        biased: The model that `detect` calls.
        detect: Function from an image to its detections.
        count: Function from the detections of an image to their number.
        images: uint8 `[H, W, 3]` each.
        shifts: Bias of the classifier for each image.
        repeats: Rounds over the images.

    Returns:
        The summary of the seconds, the mean seconds of all cores, and the median number of objects.
    """
    counts, seconds, before = [], [], 0.0
    for number in range(repeats + 1):
        if number == 1:
            before = cpu_seconds()
        for image, shift in zip(images, shifts, strict=True):
            biased.shift(shift)
            if number == 0:
                counts.append(count(detect(image)))
            else:
                seconds += time_calls(detect, [image])
    computed = (cpu_seconds() - before) / len(seconds)
    return {
        **summarize(seconds),
        "cpu_seconds": round(computed, 5),
        "median_detections": int(statistics.median(counts)),
        "most_detections": max(counts),
    }


def count_stages(model: MaskRCNN, image: np.ndarray) -> dict[str, float]:
    """Returns the operations of each stage for an image with as many detections as there can be."""
    molded, metas, _ = model.mold_inputs([image])
    inputs = [molded, metas, model.get_anchors(molded.shape[1:])[None]]
    return count_operations(model.keras_model, inputs, STAGES)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    add_network_options(parser, repeats=1)
    parser.add_argument("--limit", type=int, help="use only so many images")
    args = parser.parse_args(arguments)

    config = make_detection_config(args)
    keras.utils.set_random_seed(args.seed)
    model = MaskRCNN("inference", config, model_dir=".")
    if args.weights:
        model.load_weights(args.weights)
    dataset = load_dataset(args)
    chosen = dataset.image_ids[: args.limit]
    images = [dataset.load_image(image_id) for image_id in chosen]
    biased = BiasedModel(model)
    nuclei = [len(dataset.load_labels(image_id)[1]) for image_id in chosen]
    shifts = [biased.shift_for(image, count) for image, count in zip(images, nuclei, strict=True)]

    def detect(image: np.ndarray) -> dict[str, np.ndarray]:
        return model.detect([image])[0]

    def found(result: dict[str, np.ndarray]) -> int:
        return len(result["scores"])

    typical = measure(biased, detect, found, images, shifts, args.repeats)
    instances = measure(biased, lambda image: model.detect_instances([image])[0], len, images, shifts, args.repeats)
    full = measure(biased, detect, found, images, [OBJECT_BIAS] * len(images), args.repeats)
    floor = fraction_of_floor(
        count_stages(model, images[0]), args.precision, full["median_seconds"], full["cpu_seconds"]
    )
    names = [dataset.image_info[image_id]["id"] for image_id in chosen]
    results = {
        "seconds_per_image": typical["median_seconds"],
        "typical": typical,
        "instances": instances,
        "full": full,
        "floor_of_full": floor,
        "images": len(images),
        "image_size": config.IMAGE_SHAPE[:2].tolist(),
        "proposals": config.POST_NMS_ROIS_INFERENCE,
        "detections_allowed": config.DETECTION_MAX_INSTANCES,
        "preset": args.preset,
        "precision": config.PRECISION,
        "weights": args.weights.name if args.weights else "random",
        "biases": {name: round(shift, 4) for name, shift in zip(names, shifts, strict=True)},
    }
    print_report("detection", results)


if __name__ == "__main__":
    main()
