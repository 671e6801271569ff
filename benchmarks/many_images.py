"""Time from the files of many images to a folder of results, one after the other and as `nucleus detect` does it.

Prints one JSON object. `single` reads, predicts, measures and writes each image before the next; `overlapped` shows the
model chunks of images, and reads and writes others meanwhile. Both run once before the clock starts and then in turn.
`seconds_per_image` is the median of `overlapped`, `speedup` the ratio of the two medians; `cpu_seconds` are those of
all threads for all images. `same_files` is true if both wrote the same label images and tables.

With `--sides 96 320` it says instead what it costs that images differ in size: as many images of as many sizes, between
these sides, and as many of one size and of the same area in all are found as `nucleus detect` finds them, each in a
process of its own. The clock runs from the first image on, so that every graph that is traced or compiled on the way
counts. `times_dearer` is the ratio of both `seconds_per_megapixel`, `cpu_times_dearer` that of the seconds of all
threads, which says more where other programs run. `peak_memory_mb` is the largest resident set of each process, and
`memory_left_mb` that after the last image. `--set SCALE=1` leaves out what an image costs whose scale is looked for: it
is seen enlarged, which takes the memory of the enlarged image.

    python benchmarks/many_images.py
    python benchmarks/many_images.py --model nucleus_mask_rcnn --images 48 --size 512
    python benchmarks/many_images.py --images 300 --sides 96 320
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import make_parser, make_report, peak_memory_mb, positive, resident_memory_mb, timed

from nucleus import load_model, read_image, read_raw
from nucleus.datasets.dataset import shipped_data
from nucleus.images.writing import write_rgb
from nucleus.models.base import NucleusModel
from nucleus.prediction.detection import detect_images
from nucleus.prediction.writers import Record, default_formats, open_writers
from trainkit.files import write_text


def make_images(folder: Path, sizes: Sequence[tuple[int, int]]) -> list[Path]:
    """Writes crops of the shipped images, mirrored where they are too small.

    Args:
        folder: Folder to write into.
        sizes: Height and width of each crop in pixels.
    """
    paths = sorted(shipped_data().glob("*/*/images/*.png"))
    files = []
    for number, (height, width) in enumerate(sizes):
        image = read_image(paths[number % len(paths)])
        missing = [(0, max(0, side - have)) for side, have in zip((height, width), image.shape[:2], strict=True)]
        image = np.pad(image, (*missing, (0, 0)), mode="symmetric")
        files.append(folder / f"{number:04d}.png")
        write_rgb(files[-1], np.ascontiguousarray(image[-height:, -width:]))
    return files


def different_sizes(count: int, least: int, most: int, seed: int) -> list[tuple[int, int]]:
    """Returns heights and widths between two sides, inclusive, no two of which are equal.

    Args:
        count: Number of sizes.
        least: Smallest side in pixels.
        most: Largest side in pixels.
        seed: Seed of the choice.

    Raises:
        SystemExit: There are fewer sizes between these sides.
    """
    sides = most - least + 1
    if least > most or sides**2 < count:
        raise SystemExit(f"Expected sides between which there are {count} sizes. Received: {least} {most}")
    chosen = np.random.default_rng(seed).choice(sides**2, count, replace=False)
    return [(least + int(number) // sides, least + int(number) % sides) for number in chosen]


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


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the result files of a run by name."""
    paths = (path for path in folder.rglob("*") if path.suffix in (".png", ".csv"))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def measure(args: argparse.Namespace, sizes: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Finds the nuclei of images of given sizes from the first graph on.

    Args:
        args: The command line.
        sizes: Height and width of each image in pixels.
    """
    model = load_model(args.model, settings=dict(setting.split("=", 1) for setting in args.set))
    loaded = peak_memory_mb()
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "images").mkdir()
        files = make_images(Path(name) / "images", sizes)
        found: list[int] = []
        whole, cpu = timed(
            lambda: found.append(detect_images(files, Path(name, "found"), model, progress=False).nuclei)
        )
    megapixels = sum(height * width for height, width in sizes) / 1e6
    return {
        "sizes": len(set(sizes)),
        "megapixels": round(megapixels, 3),
        "nuclei": found[0],
        "seconds": round(whole, 2),
        "seconds_per_megapixel": round(whole / megapixels, 4),
        "cpu_seconds_per_megapixel": round(cpu / megapixels, 4),
        "model_memory_mb": loaded,
        "memory_left_mb": round(resident_memory_mb(), 1),
        "peak_memory_mb": peak_memory_mb(),
        "precision": model.config.to_dict().get("PRECISION", "float32"),
    }


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Calls a function of a module in a process of its own, and returns its result."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def compare_sizes(args: argparse.Namespace) -> dict[str, Any]:
    """Compares images of many sizes with as many of one size; see the module's text.

    Args:
        args: The command line.
    """
    many = different_sizes(args.images, *args.sides, args.seed)
    side = round(math.sqrt(sum(height * width for height, width in many) / len(many)))
    one_size = in_new_process(measure, args, [(side, side)] * args.images)
    many_sizes = in_new_process(measure, args, many)
    precision = {each.pop("precision") for each in (one_size, many_sizes)}

    def ratio(figure: str) -> float:
        return round(many_sizes[figure] / one_size[figure], 3)

    return {
        "seconds_per_image": round(many_sizes["seconds"] / args.images, 5),
        "times_dearer": ratio("seconds_per_megapixel"),
        "cpu_times_dearer": ratio("cpu_seconds_per_megapixel"),
        "one_size": one_size,
        "many_sizes": many_sizes,
        "images": args.images,
        "sides": args.sides,
        "model": args.model,
        "settings": args.set,
        "precision": precision.pop(),
    }


def compare_ways(args: argparse.Namespace) -> dict[str, Any]:
    """Compares one image after the other with `nucleus detect`; see the module's text.

    Args:
        args: The command line.
    """
    model = load_model(args.model, settings=dict(setting.split("=", 1) for setting in args.set))
    seconds: dict[str, list[tuple[float, float]]] = {"single": [], "overlapped": []}
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "images").mkdir()
        files = make_images(Path(name) / "images", [(args.size, args.size)] * args.images)
        for number in range(args.repeats + 1):
            single, together = Path(name, f"single{number}"), Path(name, f"overlapped{number}")
            one = timed(lambda to=single: detect_singly(model, files, to))
            other = timed(lambda to=together: detect_images(files, to, model, progress=False))
            if number:
                seconds["single"].append(one)
                seconds["overlapped"].append(other)
        same = contents(single) == contents(together)
    medians = {way: [statistics.median(column) for column in zip(*rows, strict=True)] for way, rows in seconds.items()}
    return {
        "seconds_per_image": round(medians["overlapped"][0] / args.images, 5),
        "speedup": round(medians["single"][0] / medians["overlapped"][0], 3),
        **{way: {"seconds": round(whole, 3), "cpu_seconds": round(cpu, 3)} for way, (whole, cpu) in medians.items()},
        "same_files": same,
        "images": args.images,
        "image_size": [args.size, args.size],
        "model": args.model,
        "settings": args.set,
        "precision": model.config.to_dict().get("PRECISION", "float32"),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="nucleus_light", help="what load_model takes (default nucleus_light)")
    parser.add_argument("--images", type=positive, default=24, help="number of images (default 24)")
    parser.add_argument("--size", type=positive, default=256, help="side of the images (default 256)")
    parser.add_argument("--sides", type=positive, nargs=2, metavar=("LEAST", "MOST"), help="compare sizes of images")
    parser.add_argument("--repeats", type=positive, default=3, help="timed repetitions (default 3); not with --sides")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="setting of the model")
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the JSON here")
    args = parser.parse_args(arguments)
    report = make_report("many_images", compare_sizes(args) if args.sides else compare_ways(args))
    if args.output is not None:
        write_text(args.output, report + "\n")
    print(report)


if __name__ == "__main__":
    main()
