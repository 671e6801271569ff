"""Time to score one large prediction: overlaps of all nuclei, and mAP over the ten IoU thresholds.

Prints one JSON object. The label images are drawn, so that the work is the same everywhere: `--nuclei` ellipses on a
jittered grid, and in the prediction the same with other axes and a little moved.

- `overlaps`: the one computation that all scores share;
- `map`: from two label images to the Data Science Bowl's score, `overlaps` included;
- `all_counts`: from two label images to every count: matches, pixels, errors of division, numbers, panoptic quality;
- `glas`: the GlaS challenge's three scores, Hausdorff distances included, from the overlaps on;
- `boolean_masks`: the same mAP by comparing the boolean masks of every two nuclei. Timed for `--rows` true nuclei, and
  multiplied by how many times more there are. `speedup` is its median divided by that of `map`.

    python benchmarks/metrics.py
    python benchmarks/metrics.py --size 512 --nuclei 100 --rows 100
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import cv2
import numpy as np
from common import positive, print_report, summarize, time_calls

from nucleus import metrics


def draw_pair(size: int, nuclei: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns two int32 label images `[size, size]` of `nuclei` ellipses each."""
    rng = np.random.default_rng(seed)
    side = int(np.ceil(np.sqrt(nuclei)))
    pitch = size / side
    truth, predicted = np.zeros((2, size, size), np.int32)
    for index in range(nuclei):
        center = (np.array(divmod(index, side)) + 0.5) * pitch + rng.uniform(-0.05, 0.05, 2) * pitch
        for labels, shift in ((truth, 0), (predicted, 0.03)):
            place = center + rng.uniform(-shift, shift, 2) * pitch
            axes = rng.uniform(0.28, 0.4, 2) * pitch
            ellipse = (tuple(map(float, place)), tuple(map(float, 2 * axes)), float(rng.uniform(0, 180)))
            cv2.ellipse(labels, ellipse, index + 1, -1)
    return truth, predicted


def compare_masks(true_masks: Sequence[np.ndarray], predicted_masks: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the IoU of every two boolean masks, float64 `[T, P]`."""
    return np.array(
        [
            [np.count_nonzero(one & other) / np.count_nonzero(one | other) for other in predicted_masks]
            for one in true_masks
        ]
    )


def masks_of(labels: np.ndarray) -> list[np.ndarray]:
    """Returns one boolean mask `[H, W]` a nucleus."""
    return [labels == label for label in np.unique(labels) if label]


def count_everything(pair: metrics.Overlaps) -> tuple:
    """Returns all that is counted over the overlaps."""
    return (
        metrics.count_matches(pair),
        metrics.count_pixels(pair),
        metrics.count_divisions(pair),
        metrics.count_nuclei(pair),
        metrics.panoptic_quality(pair),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=positive, default=1024, help="image side in pixels (default 1024)")
    parser.add_argument("--nuclei", type=positive, default=300, help="nuclei in each label image (default 300)")
    parser.add_argument("--rows", type=positive, default=10, help="true nuclei compared as masks (default 10)")
    parser.add_argument("--repeats", type=positive, default=20, help="timed repetitions (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)

    truth, predicted = draw_pair(args.size, args.nuclei, args.seed)
    pair = metrics.overlaps(truth, predicted)
    timed = {
        "overlaps": lambda _: metrics.overlaps(truth, predicted),
        "map": lambda _: metrics.average_precision(truth, predicted),
        "all_counts": lambda _: count_everything(metrics.overlaps(truth, predicted)),
        "glas": lambda _: metrics.glas_scores(pair),
    }
    summaries = {}
    for name, function in timed.items():
        function(None)
        summaries[name] = summarize(time_calls(function, range(args.repeats)))

    true_masks, predicted_masks = masks_of(truth), masks_of(predicted)
    rows = min(args.rows, len(true_masks))
    share = len(true_masks) / rows
    seconds = time_calls(lambda row: compare_masks([true_masks[row]], predicted_masks), range(rows))
    compared = compare_masks(true_masks[:rows], predicted_masks)
    if not np.allclose(compared, metrics.iou_matrix(truth, predicted)[:rows]):
        raise RuntimeError("The overlaps disagree with boolean masks.")
    boolean = sum(seconds) * share
    report = {
        "seconds_per_image": summaries["map"]["median_seconds"],
        **summaries,
        "boolean_masks": {"seconds": round(boolean, 3), "rows": rows},
        "speedup": round(boolean / summaries["map"]["median_seconds"], 1),
        "score": round(metrics.average_precision(truth, predicted), 6),
        "image_size": [args.size, args.size],
        "nuclei": [len(pair.truth_ids), len(pair.predicted_ids)],
        "threads": 1,
        "precision": "float64",
    }
    print_report("metrics", report)


if __name__ == "__main__":
    main()
