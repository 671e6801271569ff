"""Scores of images brought to other sizes, beside those at their own size.

Prints one JSON object. Every image, or a square window of it, is resized by every factor and predicted twice: as it is
(`SCALE=1`), and with the scale that is found for it. For each factor:

- `as_it_is` and `found`: mAP of the 2018 Data Science Bowl, the mean over images, against masks resized likewise
  (nearest neighbour);
- `count_as_it_is` and `count_found`: nuclei found, as a share of those there are;
- `factors`: quartiles of the factors that were found.

    python benchmarks/scales.py
    python benchmarks/scales.py --dataset my_set --subset all --weights mine.h5 --images 40
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from common import load_dataset, make_parser, positive, print_report

import nucleus
from nucleus.evaluation.scores import average_precision
from nucleus.images.labels import relabel_sequential
from nucleus.models.base import NucleusModel

_FACTORS = (1 / 3, 1 / 2, 1.0, 2.0, 3.0)


def resize(image: np.ndarray, labels: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Resizes an image by averaging or cubic interpolation, and its labels by nearest neighbour.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        labels: int32 `[H, W]`.
        factor: Factor of height and width.

    Returns:
        The image, and labels 1..N of the nuclei that still have a pixel.
    """
    if factor == 1:
        return image, relabel_sequential(labels)[0]
    size = tuple(max(1, round(side * factor)) for side in image.shape[1::-1])
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC)
    rows, columns = (
        np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
        for new, old in zip(size[::-1], labels.shape, strict=True)
    )
    return resized, relabel_sequential(np.ascontiguousarray(labels[rows[:, None], columns]))[0]


def window(image: np.ndarray, labels: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the middle of an image and of its labels, at most `side` pixels a side."""
    y, x = (max(0, (length - side) // 2) for length in labels.shape)
    return image[y : y + side, x : x + side], labels[y : y + side, x : x + side]


def score(model: NucleusModel, image: np.ndarray, truth: np.ndarray) -> tuple[float, int, float]:
    """Returns (mAP, number of nuclei found, factor) of one image."""
    (found,) = model.predict(image)
    return average_precision(truth, found.labels), len(found.scores), found.scale


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark; see the module's docstring."""
    parser = make_parser(__doc__)
    parser.add_argument("--weights", help="weights file or name of shipped ones (default: the shipped default)")
    parser.add_argument("--images", type=positive, default=1000, help="most images, evenly spaced (default: all)")
    parser.add_argument("--side", type=positive, default=360, help="largest side of a window (default: %(default)s)")
    args = parser.parse_args(arguments)
    dataset = load_dataset(args)
    chosen = dataset.image_ids[:: -(-len(dataset.image_ids) // args.images)]
    models = {
        "as_it_is": nucleus.load_model(args.weights, settings={"SCALE": 1.0}),
        "found": nucleus.load_model(args.weights),
    }
    start, report, used = time.perf_counter(), [], set()
    for factor in _FACTORS:
        rows: dict[str, list[tuple[float, int, float]]] = {name: [] for name in models}
        true = 0
        for index in chosen:
            image, labels = window(dataset.load_image(index), dataset.load_labels(index)[0], args.side)
            if not labels.any():
                continue
            used.add(int(index))
            image, truth = resize(image, labels, factor)
            true += int(truth.max())
            for name, model in models.items():
                rows[name].append(score(model, image, truth))
        result: dict[str, Any] = {"factor": round(factor, 3), "true": true}
        for name, found in rows.items():
            result[name] = round(float(np.mean([row[0] for row in found])), 3)
            result[f"count_{name}"] = round(sum(row[1] for row in found) / true, 3)
        result["factors"] = np.quantile([row[2] for row in rows["found"]], (0.25, 0.5, 0.75)).round(2).tolist()
        report.append(result)
    elapsed = (time.perf_counter() - start) / (len(used) * len(_FACTORS) * len(models))
    settings = models["found"].config.to_dict()
    results = {
        "weights": args.weights or "shipped",
        "known_diameters": settings["KNOWN_DIAMETERS"],
        "precision": settings.get("PRECISION", "float64"),
        "images": len(used),
        "scales": report,
        "seconds_per_image": round(elapsed, 3),
    }
    print_report("scales", results)


if __name__ == "__main__":
    main()
