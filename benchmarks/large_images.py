"""Time and memory to find the nuclei of large images: mosaics of real ones.

Prints one JSON object. For every size (1000, 2000 and 3000 pixels a side; `--huge` adds 6000) a mosaic of blocks of the
dataset's images is predicted in a process of its own, so that each has its own peak of memory:

- `nuclei` and `tiles` (1: the image is shown whole);
- `seconds_per_megapixel`, after one tile has been predicted, so that no graph is compiled while the clock runs, and the
  same of all cores' time, `cpu_seconds_per_megapixel`, which says more where other programs run;
- `peak_above_model_mb`: the largest resident set while predicting, less that of the process with the image in memory,
  the model loaded and a small image predicted.

With `--file` a mosaic is never in memory: it is written as a tiled BigTIFF or, with `--format zarr`, as OME-Zarr, block
by block, and read by regions, and its label image is written in the same format meanwhile. `write_seconds` is the time
that writing the mosaic took, `file_mb` and `labels_mb` are the sizes of both. Sides of 10,000 to 30,000 need this.
`--kill` predicts each mosaic a second time, in a process that is killed without warning (SIGKILL) when half of the
tiles are done, and is started again: `killed_at` is the number of tiles done then, `again` that of the tiles that the
second process predicted, and `same_bytes` says whether the label image is the same byte for byte.

`--model blobs` takes the place of a network where memory and files are what is measured: it takes pixels that differ
from those around them for nuclei, and its numbers of nuclei say nothing about any model.

`seconds_per_image` is that of the largest mosaic. `--output` keeps the JSON after every mosaic.

    python benchmarks/large_images.py
    python benchmarks/large_images.py --model unet --sizes 1000 4000 --set TILE_SIZE=768
    python benchmarks/large_images.py --file --model blobs --kill --sizes 1000 6000 30000 --output large_images.json
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from common import load_dataset, make_parser, make_report, peak_memory_mb, positive, print_report, resident_memory_mb

import nucleus
from nucleus.datasets.dataset import NucleusDataset
from nucleus.models.base import History, NucleusModel, Prediction
from nucleus.models.settings import PredictionSettings
from nucleus.models.tiles import Tiles, divide
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
    """Writes the mosaic of `make_mosaic` as a BigTIFF or OME-Zarr whose tiles are its blocks, one at a time.

    Args:
        dataset: Prepared data set.
        side: Side of the mosaic in pixels.
        path: File or folder to write, ending in `.tif` or `.zarr`.
    """
    blocks = [block for index in dataset.image_ids for block in _blocks(dataset.load_image(index))]
    views = [np.rot90(block[:, ::flip], turns) for flip in (1, -1) for turns in range(4) for block in blocks]
    if path.suffix == ".zarr":
        _write_zarr(views, side, path)
        return
    packed = [zlib.compress(np.ascontiguousarray(view).tobytes()) for view in views]
    count = len(range(0, side, _BLOCK)) ** 2
    tifffile.imwrite(
        path,
        itertools.islice(itertools.cycle(packed), count),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(_BLOCK, _BLOCK),
        photometric="rgb",
        compression="zlib",
        bigtiff=True,
        metadata=None,
    )


def _write_zarr(views: Sequence[np.ndarray], side: int, path: Path) -> None:
    import zarr

    group = zarr.open_group(path, mode="w", zarr_format=2)
    array = group.create_array("0", shape=(3, side, side), chunks=(3, _BLOCK, _BLOCK), dtype=np.uint8)
    places = itertools.product(range(0, side, _BLOCK), repeat=2)
    for (y, x), view in zip(places, itertools.cycle(views), strict=False):
        bottom, right = min(y + _BLOCK, side), min(x + _BLOCK, side)
        array[:, y:bottom, x:right] = np.moveaxis(view[: bottom - y, : right - x], -1, 0)
    axes = [{"name": "c", "type": "channel"}, *({"name": axis, "type": "space"} for axis in "yx")]
    scale = {"type": "scale", "scale": [1.0, 1.0, 1.0]}
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]
    group.attrs["omero"] = {"channels": [{"label": name} for name in ("red", "green", "blue")]}


class Blobs(NucleusModel):
    """Stands in for a network where memory and files are measured: 20 to 4,000 pixels unlike those around them."""

    def __init__(self) -> None:
        self.config = PredictionSettings()

    def fit(self, train: Any, val: Any, *, epochs: int | None = None, callbacks: Sequence[Any] = ()) -> History:
        """Learns nothing."""
        return History("epoch", {})

    def save(self, path: str | os.PathLike) -> None:
        """Has nothing to write."""

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        found = []
        for image in images:
            green = np.ascontiguousarray(image[..., 1])
            differs = (cv2.absdiff(green, cv2.blur(green, (63, 63))) > 60).astype(np.uint8)
            _, labels, statistics, _ = cv2.connectedComponentsWithStats(differs, connectivity=4)
            areas = statistics[:, cv2.CC_STAT_AREA]
            kept = (areas >= 20) & (areas <= 4000)
            kept[0] = False
            labels = np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels]
            found.append(Prediction(labels, np.ones(int(kept.sum()), np.float32)))
        return found


def _load_model(args: argparse.Namespace) -> NucleusModel:
    settings = dict(setting.split("=", 1) for setting in args.set)
    if args.model != "blobs":
        return nucleus.load_model(args.model, settings=settings)
    model = Blobs()
    model.config.update(settings)
    return Tiles(model, model.config.TILE_SIZE, model.config.TILE_OVERLAP)


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
    model = _load_model(args)
    config, whole = model.config, (0, 0, side, side)
    tiled = config.TILE_SIZE and side * side > 2 * config.TILE_SIZE**2
    tiles = divide(whole, config.TILE_SIZE, config.TILE_OVERLAP) if tiled else [whole]
    model.predict(image[:_BLOCK, :_BLOCK])
    resident = resident_memory_mb()
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
    model = _load_model(args)
    suffix = "." + args.format
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path, labels = Path(folder, f"mosaic{suffix}"), Path(folder, f"labels{suffix}")
        start = time.perf_counter()
        write_mosaic(load_dataset(args), side, path)
        written = time.perf_counter() - start
        with nucleus.open_lazy(path) as image:
            model.predict(image.region(0, _BLOCK, 0, _BLOCK))
            resident = resident_memory_mb()
            bottom = right = min(model.config.TILE_SIZE, side)
            model.predict(image.region(0, bottom, 0, right))
            start, computed = time.perf_counter(), time.process_time()
            found = nucleus.predict_large(model, image, labels, progress=False)
            seconds, computed = time.perf_counter() - start, time.process_time() - computed
            peak = peak_memory_mb()
        result = {
            "side": side,
            "tiles": found.tiles,
            "nuclei": len(found.nuclei),
            "seconds": round(seconds, 2),
            "seconds_per_megapixel": round(seconds / side**2 * 1e6, 3),
            "cpu_seconds_per_megapixel": round(computed / side**2 * 1e6, 3),
            "peak_above_model_mb": round(max(0.0, peak - resident), 1),
            "write_seconds": round(written, 2),
            "file_mb": _size_mb(path),
            "labels_mb": _size_mb(labels),
        }
        return result | (_kill_and_resume(args, path, labels, found.tiles) if args.kill else {})


def _kill_and_resume(args: argparse.Namespace, path: Path, labels: Path, tiles: int) -> dict[str, Any]:
    """Predicts a mosaic in a process that is killed and started again, and compares the label images."""
    output = labels.with_name(f"again{labels.suffix}")
    work = output.with_name(f"{output.name}.tiles")
    options = ["--model", args.model, *(f"--set={setting}" for setting in args.set)]
    command = [sys.executable, __file__, *options, "--predict", str(path), str(output)]
    with subprocess.Popen(command) as process:
        while process.poll() is None and _done(work) < tiles // 2:
            time.sleep(0.05)
        process.kill()
    killed_at = _done(work)
    subprocess.run(command, check=True)
    again = int(output.with_suffix(".txt").read_text())
    return {"killed_at": killed_at, "again": again, "same_bytes": _digest(output) == _digest(labels)}


def _done(work: Path) -> int:
    return sum(1 for file in work.glob("*.npz") if not file.name.startswith(".")) if work.is_dir() else 0


def predict(args: argparse.Namespace) -> None:
    """Predicts a file, going on with what an earlier process has left, and notes how many tiles that took.

    Args:
        args: The command line; `predict` is the image and the label image.
    """
    path, output = map(Path, args.predict)
    with nucleus.open_lazy(path) as image:
        before = _done(output.with_name(f"{output.name}.tiles"))
        found = nucleus.predict_large(_load_model(args), image, output, identity="benchmark", progress=False)
    output.with_suffix(".txt").write_text(str(found.tiles - before))


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _size_mb(path: Path) -> float:
    return round(sum(file.stat().st_size for file in _files(path)) / 2**20, 1)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(file.relative_to(path).as_posix().encode())
        with open(file, "rb") as stream:
            while chunk := stream.read(2**24):
                digest.update(chunk)
    return digest.hexdigest()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="mask_rcnn", help="whatever load_model takes, or blobs (default mask_rcnn)")
    parser.add_argument("--sizes", type=positive, nargs="+", default=[1000, 2000, 3000], help="sides of the mosaics")
    parser.add_argument("--huge", action="store_true", help="a mosaic of 6000 x 6000 too")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="setting of the model")
    parser.add_argument("--file", action="store_true", help="mosaics are files that are read by regions")
    parser.add_argument(
        "--folder", type=Path, help="with --file: folder of the temporary files (default: the system's)"
    )
    parser.add_argument("--format", choices=("tif", "zarr"), default="tif", help="with --file: format (default tif)")
    parser.add_argument("--kill", action="store_true", help="with --file: a killed run is resumed, and compared")
    parser.add_argument("--predict", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the JSON here, after every mosaic")
    args = parser.parse_args(arguments)
    if args.predict:
        predict(args)
        return

    sizes = [*args.sizes, *([6000] if args.huge else [])]
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        measured: list[dict[str, Any]] = []
        for side in sizes:
            measured.append(pool.apply(measure_file if args.file else measure, (args, side)))
            results = {
                "seconds_per_image": measured[-1]["seconds"],
                "mosaics": measured,
                "read": f"{args.format} by regions" if args.file else "whole",
                "model": args.model,
                "settings": args.set,
                "precision": "float32",
            }
            if args.output is not None:
                write_text(args.output, make_report("large_images", results) + "\n")
    print_report("large_images", results)


if __name__ == "__main__":
    main()
