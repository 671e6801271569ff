"""Time and memory of a U-Net's post-processing, from probabilities to nuclei, at growing sizes.

Prints one JSON object. The probabilities are drawn, so that the work is the same everywhere: discs with soft edges on a
jittered grid, some of which touch, about one for 900 pixels. For each side in `--sizes`: nuclei found, median seconds
and seconds of all cores for a megapixel, and the memory that the arrays of a call take at most, for a megapixel and
without the probabilities themselves. `growth` is the largest side's seconds for a megapixel divided by those of the
smallest: 1 if the time is proportional to the area. `seconds_per_image` is the median of the largest side.

    python benchmarks/postprocessing.py
    python benchmarks/postprocessing.py --method components --sizes 512 1024
"""

from __future__ import annotations

import argparse
import statistics
import tracemalloc
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from common import positive, print_report, timed

from unet.postprocess import METHODS, PostprocessSettings, postprocess

# Pixels between the middles of two discs, and their radii.
PITCH, RADII = 30, (8, 15)


def draw_probabilities(side: int, seed: int) -> np.ndarray:
    """Returns float32 `[side, side, 3]` in 0..1: nuclei, nuclei without their borders, and touching borders."""
    rng = np.random.default_rng(seed)
    mask, marker = np.zeros((2, side, side), np.uint8)
    for y in range(PITCH // 2, side, PITCH):
        for x in range(PITCH // 2, side, PITCH):
            place = [int(middle + rng.integers(-4, 5)) for middle in (x, y)]
            radius = int(rng.integers(*RADII, endpoint=True))
            cv2.circle(mask, place, radius, 255, -1)
            cv2.circle(marker, place, radius - 4, 255, -1)
    soft = [cv2.GaussianBlur(channel, (0, 0), 1.5) for channel in (mask, marker, mask - marker)]
    return np.stack(soft, axis=-1).astype(np.float32) / 255


def measure(side: int, settings: PostprocessSettings, repeats: int, seed: int) -> dict[str, Any]:
    """Times the post-processing of one size; see the module's docstring for what is returned."""
    probabilities = draw_probabilities(side, seed)
    tracemalloc.start()
    _, scores = postprocess(probabilities, settings)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    pairs = [timed(lambda: postprocess(probabilities, settings)) for _ in range(repeats)]
    seconds, computed = (statistics.median(column) for column in zip(*pairs, strict=True))
    megapixels = side**2 / 1e6
    return {
        "side": side,
        "nuclei": len(scores),
        "median_seconds": round(seconds, 5),
        "seconds_per_megapixel": round(seconds / megapixels, 4),
        "cpu_seconds_per_megapixel": round(computed / megapixels, 4),
        "memory_mb_per_megapixel": round(peak / 2**20 / megapixels, 1),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = [512, 1024, 2048, 4096]
    parser.add_argument(
        "--sizes", type=positive, nargs="+", default=sizes, help="sides in pixels (default 512 to 4096)"
    )
    parser.add_argument("--method", choices=METHODS, default=PostprocessSettings().method, help="method (%(default)s)")
    parser.add_argument("--repeats", type=positive, default=5, help="timed repetitions (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    settings = PostprocessSettings(method=args.method)
    rows = [measure(side, settings, args.repeats, args.seed) for side in sorted(args.sizes)]
    results = {
        "seconds_per_image": rows[-1]["median_seconds"],
        "sizes": rows,
        "growth": round(rows[-1]["cpu_seconds_per_megapixel"] / rows[0]["cpu_seconds_per_megapixel"], 3),
        "method": args.method,
        "threads": 1,
        "precision": "float32",
    }
    print_report("postprocessing", results)


if __name__ == "__main__":
    main()
