"""Time and memory to find the nuclei of large images: mosaics of real ones.

Prints one JSON object. For every size (1000, 2000 and 3000 pixels a side; `--huge` adds 6000) a mosaic of blocks of the
dataset's images is predicted in a process of its own, so that each has its own peak of memory:

- `nuclei` and `tiles` (1: the image is shown whole);
- `seconds_per_megapixel`, after one tile has been predicted, so that no graph is compiled while the clock runs, and the
  same of all cores' time, `cpu_seconds_per_megapixel`, which says more where other programs run;
- `peak_above_model_mb`: the largest resident set while predicting, less that of the process with the image in memory,
  the model loaded and a small image predicted.

With `--file` a mosaic is never in memory: it is written as a tiled BigTIFF, block by block, read by regions, and its
label image is written as a tiled TIFF; `write_seconds` is the time that writing the mosaic took, `file_mb` and
`labels_mb` are the sizes of both files. Sides of 10,000 to 30,000 pixels need this.

`seconds_per_image` is that of the largest mosaic. `--output` keeps the JSON after every mosaic.

    python benchmarks/large_images.py
    python benchmarks/large_images.py --model unet --sizes 1000 4000 --set TILE_SIZE=768
    python benchmarks/large_images.py --file --sizes 1000 3000 6000 10000 30000 --output large_images.json
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from common import load_dataset, make_parser, make_report, peak_memory_mb, positive, print_report

import nucleus
from nucleus.datasets.dataset import NucleusDataset
from nucleus.models.tiles import divide
from trainkit.files import write_text

# Side in pixels of the blocks that mosaics are made of; no shipped image is smaller.
_BLOCK = 256


def make_mosaic(dataset: NucleusDataset, side: int) -> np.ndarray:
    """Returns a mosaic of blocks of images, each of which comes in eight views before it repeats.

    Args:
        dataset: Prepared data set.
        side: Side of the mosaic in pixels.

    Returns:
        uint8 `[side, side, 3]` RGB.
    """
    blocks = [block for index in dataset.image_ids for block in _blocks(dataset.load_image(index))]
    views = [np.rot90(block[:, ::flip], turns) for flip in (1, -1) for turns in range(4) for block in blocks]
    mosaic = np.zeros((side, side, 3), np.uint8)
    places = itertools.product(range(0, side, _BLOCK), repeat=2)
    for (y, x), view in zip(places, itertools.cycle(views), strict=False):
        room = mosaic[y : y + _BLOCK, x : x + _BLOCK]
        room[:] = view[: room.shape[0], : room.shape[1]]
    return mosaic


def write_mosaic(dataset: NucleusDataset, side: int, path: Path) -> None:
    """Writes the mosaic of `make_mosaic` as a BigTIFF whose tiles are its blocks, one at a time.

    Args:
        dataset: Prepared data set.
        side: Side of the mosaic in pixels.
        path: File to write.
    """
    blocks = [block for index in dataset.image_ids for block in _blocks(dataset.load_image(index))]
    views = [np.rot90(block[:, ::flip], turns) for flip in (1, -1) for turns in range(4) for block in blocks]
    count = len(range(0, side, _BLOCK)) ** 2
    tifffile.imwrite(
        path,
        (np.ascontiguousarray(view) for view in itertools.islice(itertools.cycle(views), count)),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(_BLOCK, _BLOCK),
        photometric="rgb",
        bigtiff=True,
        metadata=None,
    )


def _blocks(image: np.ndarray) -> Iterator[np.ndarray]:
    for y in range(0, image.shape[0] - _BLOCK + 1, _BLOCK):
        for x in range(0, image.shape[1] - _BLOCK + 1, _BLOCK):
            yield image[y : y + _BLOCK, x : x + _BLOCK]


def measure(args: argparse.Namespace, side: int) -> dict[str, Any]:
    """Predicts one mosaic; see the module's text for what is measured.

    Args:
        args: The command line.
        side: Side of the mosaic in pixels.
    """
    image = make_mosaic(load_dataset(args), side)
    model = nucleus.load_model(args.model, settings=dict(setting.split("=", 1) for setting in args.set))
    config, whole = model.config, (0, 0, side, side)
    tiled = config.TILE_SIZE and side * side > 2 * config.TILE_SIZE**2
    tiles = divide(whole, config.TILE_SIZE, config.TILE_OVERLAP) if tiled else [whole]
    model.predict(image[:_BLOCK, :_BLOCK])
    resident = _resident_mb()
    model.predict(image[: tiles[0][2], : tiles[0][3]])
    start, computed = time.perf_counter(), time.process_time()
    (found,) = model.predict(image)
    seconds, computed = time.perf_counter() - start, time.process_time() - computed
    return {
        "side": side,
        "tiles": len(tiles),
        "nuclei": len(found.scores),
        "seconds": round(seconds, 2),
        "seconds_per_megapixel": round(seconds / side**2 * 1e6, 3),
        "cpu_seconds_per_megapixel": round(computed / side**2 * 1e6, 3),
        # Two counters of the system, which differ by some pages.
        "peak_above_model_mb": round(max(0.0, peak_memory_mb() - resident), 1),
    }


def measure_file(args: argparse.Namespace, side: int) -> dict[str, Any]:
    """Writes one mosaic, and predicts it by regions; see the module's text for what is measured.

    Args:
        args: The command line.
        side: Side of the mosaic in pixels.
    """
    model = nucleus.load_model(args.model, settings=dict(setting.split("=", 1) for setting in args.set))
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path, labels = Path(folder, "mosaic.tif"), Path(folder, "labels.tif")
        start = time.perf_counter()
        write_mosaic(load_dataset(args), side, path)
        written = time.perf_counter() - start
        with nucleus.open_lazy(path) as image:
            model.predict(image.region(0, _BLOCK, 0, _BLOCK))
            resident = _resident_mb()
            bottom = right = min(model.config.TILE_SIZE, side)
            model.predict(image.region(0, bottom, 0, right))
            start, computed = time.perf_counter(), time.process_time()
            found = nucleus.predict_large(model, image, labels, progress=False)
            seconds, computed = time.perf_counter() - start, time.process_time() - computed
        return {
            "side": side,
            "tiles": found.tiles,
            "nuclei": len(found.nuclei),
            "seconds": round(seconds, 2),
            "seconds_per_megapixel": round(seconds / side**2 * 1e6, 3),
            "cpu_seconds_per_megapixel": round(computed / side**2 * 1e6, 3),
            "peak_above_model_mb": round(max(0.0, peak_memory_mb() - resident), 1),
            "write_seconds": round(written, 2),
            "file_mb": round(path.stat().st_size / 2**20, 1),
            "labels_mb": round(labels.stat().st_size / 2**20, 1),
        }


def _resident_mb() -> float:
    """Returns the resident set of this process; the largest so far where the system does not report it."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return peak_memory_mb()
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="mask_rcnn", help="whatever nucleus.load_model takes (default mask_rcnn)")
    parser.add_argument("--sizes", type=positive, nargs="+", default=[1000, 2000, 3000], help="sides of the mosaics")
    parser.add_argument("--huge", action="store_true", help="a mosaic of 6000 x 6000 too")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="setting of the model")
    parser.add_argument("--file", action="store_true", help="mosaics are files that are read by regions")
    parser.add_argument(
        "--folder", type=Path, help="with --file: folder of the temporary files (default: the system's)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the JSON here, after every mosaic")
    args = parser.parse_args(arguments)

    sizes = [*args.sizes, *([6000] if args.huge else [])]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        measured: list[dict[str, Any]] = []
        for side in sizes:
            measured.append(pool.apply(measure_file if args.file else measure, (args, side)))
            results = {
                "seconds_per_image": measured[-1]["seconds"],
                "mosaics": measured,
                "read": "by regions" if args.file else "whole",
                "model": args.model,
                "settings": args.set,
                "precision": "float32",
            }
            if args.output is not None:
                write_text(args.output, make_report("large_images", results) + "\n")
    print_report("large_images", results)


if __name__ == "__main__":
    main()
