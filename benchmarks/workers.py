"""Time from the files of many images to a folder of results, in one process and on one and more workers.

Prints one JSON object. All ways are run once before the clock starts, so that every worker has loaded the model, and
then in turn, `--repeats` times. `start_seconds` is the time in which the workers of all ways were started.
`seconds_per_image` is the median on as many workers as `--workers` says, `speedups` the ratios of the median in one
process to the others. `client_seconds_per_image` are the processor's seconds that the client used for an image: one
client keeps as many workers busy as their seconds an image contain its own. `same_files` is true if all ways wrote the
same files. `areas` and `nuclei` are seconds an image of one process for images of growing sides, and for images of one
size with more and more nuclei.

    python benchmarks/workers.py
    python benchmarks/workers.py --model nucleus_light --images 20
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from common import make_parser, positive, print_report
from many_images import contents, make_images, timed

from nucleus import load_model
from nucleus.images.writing import write_rgb
from nucleus.models.base import NucleusModel
from nucleus.prediction.cluster import Cluster
from nucleus.prediction.detection import detect
from nucleus.prediction.inputs import collect_images


def discs(side: int, count: int) -> np.ndarray:
    """Returns an image with some number of discs of 13 pixels across on a grid."""
    across = int(np.ceil(np.sqrt(count)))
    cell = side / across
    y, x = np.mgrid[:side, :side]
    row, column = (y // cell).astype(int), (x // cell).astype(int)
    inside = (y - (row + 0.5) * cell) ** 2 + (x - (column + 0.5) * cell) ** 2 < 42
    grey = np.where(inside & (row * across + column < count), 190, 25).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def cost(model: NucleusModel, folder: Path, images: Sequence[np.ndarray], repeats: int) -> list[float]:
    """Returns the median seconds that detection takes for each of some images, in turn."""
    seconds: list[list[float]] = [[] for _ in images]
    folder.mkdir()
    for number, image in enumerate(images):
        write_rgb(folder / f"{number}.png", image)
    for turn in range(repeats + 1):
        for number in range(len(images)):
            dataset, _ = collect_images(folder / f"{number}.png")
            took, _ = timed(lambda to=dataset, at=f"{number}_{turn}": detect(model, to, folder / at, progress=False))
            seconds[number] += [took] if turn else []
    return [round(statistics.median(row), 4) for row in seconds]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="classical/watershed", help="what load_model takes (classical/watershed)")
    parser.add_argument("--images", type=positive, default=64, help="number of images (default 64)")
    parser.add_argument("--size", type=positive, default=256, help="side of the images (default 256)")
    parser.add_argument("--workers", type=positive, default=2, help="most workers (default 2)")
    parser.add_argument("--repeats", type=positive, default=3, help="timed repetitions (default 3)")
    args = parser.parse_args(arguments)

    model = load_model(args.model)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        make_images(folder / "images", [(args.size, args.size)] * args.images)
        dataset, _ = collect_images(folder / "images")
        counts = [None, *range(1, args.workers + 1)]
        rows: dict[int | None, list[tuple[float, float]]] = {count: [] for count in counts}
        with ExitStack() as closing:
            begin = time.perf_counter()
            clusters = {count: closing.enter_context(Cluster(workers=count)) if count else None for count in counts}
            started = time.perf_counter() - begin
            for turn in range(args.repeats + 1):
                for count, cluster in clusters.items():
                    to = folder / f"{count}_{turn}"
                    took = timed(lambda to=to, on=cluster: detect(model, dataset, to, progress=False, cluster=on))
                    rows[count] += [took] if turn else []
        last = [contents(folder / f"{count}_{args.repeats}") for count in counts]
        sides = [args.size * factor for factor in (1, 2, 4)]
        results["areas"] = dict(
            zip(
                map(str, sides),
                cost(model, folder / "a", [discs(n, n * n // 1024) for n in sides], args.repeats),
                strict=True,
            )
        )
        numbers = (10, 100, 400)
        results["nuclei"] = dict(
            zip(
                map(str, numbers),
                cost(model, folder / "n", [discs(512, n) for n in numbers], args.repeats),
                strict=True,
            )
        )
    medians = {count: [statistics.median(column) for column in zip(*row, strict=True)] for count, row in rows.items()}
    names = {count: "one_process" if count is None else f"workers_{count}" for count in counts}
    report = {
        "seconds_per_image": round(medians[counts[-1]][0] / args.images, 5),
        "seconds": {names[count]: round(medians[count][0], 3) for count in counts},
        "speedups": {names[count]: round(medians[None][0] / medians[count][0], 3) for count in counts[1:]},
        "client_seconds_per_image": {names[count]: round(medians[count][1] / args.images, 5) for count in counts},
        "start_seconds": round(started, 2),
        "same_files": all(files == last[0] for files in last),
        **results,
        "images": args.images,
        "image_size": [args.size, args.size],
        "model": args.model,
        "precision": model.config.to_dict().get("PRECISION", "float32"),
    }
    print_report("workers", report)


if __name__ == "__main__":
    main()
