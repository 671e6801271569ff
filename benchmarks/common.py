"""Shared parts of the benchmarks: options, a description of the machine, and the form of the results."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from nucleus.datasets.dataset import NucleusDataset, shipped_data
from nucleus.models.mask_rcnn_presets import PRESETS

PACKAGES = ("numpy", "opencv-python", "keras", "tensorflow", "jax", "torch", "onnxruntime")


def make_parser(description: str) -> argparse.ArgumentParser:
    """Returns a parser with the options that all benchmarks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, default=shipped_data(), help="folder in the DSB2018 layout")
    parser.add_argument("--subset", default="val", help="train, val (default) or the name of a folder")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def add_network_options(parser: argparse.ArgumentParser, repeats: int) -> None:
    """Adds the options of the benchmarks that run a network."""
    parser.add_argument("--preset", choices=PRESETS, default="lineage", help="settings (default lineage: ResNet-50)")
    parser.add_argument("--size", type=positive, default=512, help="image side, a multiple of 64 (default 512)")
    parser.add_argument("--repeats", type=positive, default=repeats, help=f"timed repetitions (default {repeats})")
    parser.add_argument("--precision", choices=("float32", "mixed_bfloat16"), default="float32")
    parser.add_argument("--weights", type=Path, help="weights file; random weights by default")


def positive(text: str) -> int:
    """Returns the number above 0 that an option gives."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def load_dataset(args: argparse.Namespace, **options: Any) -> NucleusDataset:
    """Returns the prepared dataset of the command line; `options` are those of `NucleusDataset`."""
    dataset = NucleusDataset(**options)
    dataset.load_nucleus(args.dataset, args.subset)
    dataset.prepare()
    return dataset


def time_calls(function: Callable[[Any], Any], arguments: Sequence[Any]) -> list[float]:
    """Returns the seconds that `function` took on each argument.

    The function has to return what it computed as NumPy arrays or numbers, so that its work is done by then.
    """
    seconds = []
    for argument in arguments:
        start = time.perf_counter()
        function(argument)
        seconds.append(time.perf_counter() - start)
    return seconds


def summarize(seconds: Sequence[float], images: int = 1) -> dict[str, float]:
    """Returns median and 90th percentile of seconds an image.

    Args:
        seconds: Durations, each of `images` images.
        images: Images a duration covers.
    """
    return {
        "median_seconds": round(statistics.median(seconds) / images, 5),
        "p90_seconds": round(float(np.percentile(seconds, 90)) / images, 5),
        "runs": len(seconds),
    }


def peak_memory_mb() -> float:
    """Returns the largest resident set of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def print_report(name: str, results: dict[str, Any]) -> None:
    """Prints one JSON object: the results and what they depend on."""
    print(make_report(name, results))


def make_report(name: str, results: dict[str, Any]) -> str:
    """Returns one JSON object: the results and what they depend on."""
    report = {
        "benchmark": name,
        **results,
        "backend": keras.backend.backend(),
        "versions": {"python": platform.python_version(), **_versions()},
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "peak_memory_mb": peak_memory_mb(),
    }
    return json.dumps(report, indent=2)


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def processor_name() -> str:
    """Returns the processor's model, as the system calls it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
