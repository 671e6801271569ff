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

import argparse
import json
import platform
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import keras
import numpy as np

from mrcnn.data import DataGenerator
from nucleus.augment import default_augmentation
from nucleus.config import NucleusConfig
from nucleus.dataset import NucleusDataset, shipped_data


class BenchmarkConfig(NucleusConfig):
    """The nucleus settings, one image a batch."""

    IMAGES_PER_GPU = 1


def make_dataset(args: argparse.Namespace, cache_dir: Path, memory_limit: int) -> NucleusDataset:
    """Returns the prepared dataset of the command line."""
    dataset = NucleusDataset(cache_dir=cache_dir, memory_limit=memory_limit)
    dataset.load_nucleus(args.dataset, args.subset)
    dataset.prepare()
    return dataset


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
    seconds = []
    for index in range(len(generator)):
        start = time.perf_counter()
        generator[index]
        seconds.append(time.perf_counter() - start)
    return seconds[dataset.num_images * skip :]


def summarize(seconds: list[float]) -> dict[str, float]:
    """Returns median and 90th percentile."""
    return {
        "median_seconds": round(statistics.median(seconds), 5),
        "p90_seconds": round(float(np.percentile(seconds, 90)), 5),
        "images": len(seconds),
    }


def peak_memory_mb() -> float:
    """Returns the largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=shipped_data(), help="folder in the DSB2018 layout")
    parser.add_argument("--subset", default="val", help="train, val (default) or the name of a folder")
    parser.add_argument("--rounds", type=int, default=4, help="times each image is loaded (default 4)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    cv2.setNumThreads(1)
    config = BenchmarkConfig()
    with tempfile.TemporaryDirectory() as folder:
        # Imports and caches that a process fills once are not an image's cost.
        time_batches(make_dataset(args, Path(folder) / "warm", 2**30), config, args.seed, 1)
        uncached = make_dataset(args, Path(folder) / "cold", 0)
        results = {
            "masks_from_files": time_batches(uncached, config, args.seed, 1),
            "label_cache": time_batches(uncached, config, args.seed, args.rounds),
            "in_memory": time_batches(
                make_dataset(args, Path(folder) / "cold", 2**30), config, args.seed, args.rounds, skip=1
            ),
        }
    summaries = {name: summarize(seconds) for name, seconds in results.items()}
    report = {
        "benchmark": "data_loading",
        "seconds_per_image": summaries["label_cache"]["median_seconds"],
        **summaries,
        "dataset_images": uncached.num_images,
        "image_size": config.IMAGE_SHAPE[:2].tolist(),
        "threads": 1,
        "precision": config.PRECISION,
        "backend": keras.backend.backend(),
        "versions": {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "keras": keras.__version__,
        },
        "peak_memory_mb": peak_memory_mb(),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
