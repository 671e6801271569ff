"""Time to load and augment one training image, RPN targets and mini masks included, on one thread.

Prints one JSON object. Three ways an image can come in are timed, each over all images:

- `masks_from_files`: as on the very first epoch, every mask file is decoded and the label cache written;
- `label_cache`: image file and cached label image are read from disk, as in each run after the first;
- `in_memory`: decoded images are kept in memory, as from the second epoch of a run on.

`seconds_per_image` is the median of `label_cache`, the one to compare with other implementations.

    python benchmarks/data_loading.py
    python benchmarks/data_loading.py --dataset datasets/nucleus --subset val
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
from common import load_dataset, make_parser, print_report, summarize, time_calls

from mrcnn.data import DataGenerator
from nucleus.augmentation.augmenters import default_augmentation
from nucleus.datasets.dataset import NucleusDataset
from nucleus.models.mask_rcnn import NucleusConfig


class BenchmarkConfig(NucleusConfig):
    """The nucleus settings, one image a batch."""

    IMAGES_PER_GPU = 1


def time_batches(dataset: NucleusDataset, config: NucleusConfig, seed: int, rounds: int, skip: int = 0) -> list[float]:
    """Returns the seconds of each image in `rounds` rounds over the dataset, after `skip` rounds of warming up."""
    generator = DataGenerator(
        dataset,
        config,
        augmentation=default_augmentation(),
        seed=seed,
        steps=dataset.num_images * (rounds + skip),
        workers=0,
    )
    return time_calls(generator.__getitem__, range(len(generator)))[dataset.num_images * skip :]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=4, help="times each image is loaded (default 4)")
    args = parser.parse_args(arguments)

    cv2.setNumThreads(1)
    config = BenchmarkConfig()
    with tempfile.TemporaryDirectory() as folder:
        warm, cold = Path(folder) / "warm", Path(folder) / "cold"
        # Imports and caches that a process fills once are not an image's cost.
        time_batches(load_dataset(args, cache_dir=warm, memory_limit=2**30), config, args.seed, 1)
        uncached = load_dataset(args, cache_dir=cold, memory_limit=0)
        in_memory = load_dataset(args, cache_dir=cold, memory_limit=2**30)
        results = {
            "masks_from_files": time_batches(uncached, config, args.seed, 1),
            "label_cache": time_batches(uncached, config, args.seed, args.rounds),
            "in_memory": time_batches(in_memory, config, args.seed, args.rounds, skip=1),
        }
    summaries = {name: summarize(seconds) for name, seconds in results.items()}
    report = {
        "seconds_per_image": summaries["label_cache"]["median_seconds"],
        **summaries,
        "images": uncached.num_images,
        "image_size": config.IMAGE_SHAPE[:2].tolist(),
        "threads": 1,
        "precision": config.PRECISION,
    }
    print_report("data_loading", report)


if __name__ == "__main__":
    main()
