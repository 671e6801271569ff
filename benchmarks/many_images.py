"""Time from the files of many images to a folder of results, one after the other and as `nucleus detect` does it.

Prints one JSON object. `single` reads, predicts, measures and writes each image before the next; `overlapped` shows the
model chunks of images, and reads and writes others meanwhile. Both run once before the clock starts and then in turn.
`seconds_per_image` is the median of `overlapped`, `speedup` the ratio of the two medians; `cpu_seconds` are those of
all threads for all images. `same_files` is true if both wrote the same label images and tables.

    python benchmarks/many_images.py
    python benchmarks/many_images.py --model nucleus_mask_rcnn --images 48 --size 512
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import make_parser, positive, print_report

from nucleus import load_model, read_image, read_raw
from nucleus.datasets.dataset import shipped_data
from nucleus.images.writing import write_rgb
from nucleus.models.base import NucleusModel
from nucleus.prediction.detection import detect_images
from nucleus.prediction.writers import Record, default_formats, open_writers


def make_images(folder: Path, count: int, side: int) -> list[Path]:
    """Writes crops of the shipped images, mirrored where they are too small."""
    paths = sorted(shipped_data().glob("*/*/images/*.png"))
    files = []
    for number in range(count):
        image = read_image(paths[number % len(paths)])
        missing = [(0, max(0, side - length)) for length in image.shape[:2]]
        image = np.pad(image, (*missing, (0, 0)), mode="symmetric")
        files.append(folder / f"{number:04d}.png")
        write_rgb(files[-1], np.ascontiguousarray(image[-side:, -side:]))
    return files


def detect_singly(model: NucleusModel, files: Sequence[Path], output: Path) -> None:
    """Does one image after the other."""
    writers = open_writers(output, default_formats())
    for file in files:
        image = read_image(file)
        found = model.predict(image)[0]
        record = Record(
            *(file.stem, str(file), image, found.labels, found.scores, read_raw(file)),
            scale=found.scale,
            diameter=found.diameter,
        )
        for writer in writers:
            writer.add(record)
    for writer in writers:
        writer.close()


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Returns the seconds, and the processor's seconds, that a call took."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return usage.ru_utime + usage.ru_stime

    start, before = time.perf_counter(), used()
    function()
    return time.perf_counter() - start, used() - before


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the result files of a run by name."""
    paths = (path for path in folder.rglob("*") if path.suffix in (".png", ".csv"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="nucleus_light", help="what load_model takes (default nucleus_light)")
    parser.add_argument("--images", type=positive, default=24, help="number of images (default 24)")
    parser.add_argument("--size", type=positive, default=256, help="side of the images (default 256)")
    parser.add_argument("--repeats", type=positive, default=3, help="timed repetitions (default 3)")
    args = parser.parse_args(arguments)

    model = load_model(args.model)
    seconds: dict[str, list[tuple[float, float]]] = {"single": [], "overlapped": []}
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "images").mkdir()
        files = make_images(Path(name) / "images", args.images, args.size)
        for number in range(args.repeats + 1):
            single, together = Path(name, f"single{number}"), Path(name, f"overlapped{number}")
            one = timed(lambda to=single: detect_singly(model, files, to))
            other = timed(lambda to=together: detect_images(files, to, model, progress=False))
            if number:
                seconds["single"].append(one)
                seconds["overlapped"].append(other)
        same = contents(single) == contents(together)
    medians = {way: [statistics.median(column) for column in zip(*rows, strict=True)] for way, rows in seconds.items()}
    results = {
        "seconds_per_image": round(medians["overlapped"][0] / args.images, 5),
        "speedup": round(medians["single"][0] / medians["overlapped"][0], 3),
        **{way: {"seconds": round(whole, 3), "cpu_seconds": round(cpu, 3)} for way, (whole, cpu) in medians.items()},
        "same_files": same,
        "images": args.images,
        "image_size": [args.size, args.size],
        "model": args.model,
        "precision": model.config.to_dict().get("PRECISION", "float32"),
    }
    print_report("many_images", results)


if __name__ == "__main__":
    main()
