"""Shared parts of the benchmarks: options, a description of the machine, and the form of the results."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from nucleus.datasets.dataset import NucleusDataset, shipped_data
from nucleus.models.mask_rcnn_presets import PRESETS

# Layers whose operations are counted, beside dense ones.
_COUNTED = (
    keras.layers.Conv2D,
    keras.layers.DepthwiseConv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.SeparableConv2D,
)
# Side of the matrices that are multiplied to find the machine's rate, and number of times; the fastest one counts.
_MATRIX_SIDE, _MATRIX_RUNS = 1024, 12

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


def cpu_seconds() -> float:
    """Returns the seconds that all threads of this process have computed so far.

    Unlike seconds of a clock, they count no other programs, as far as these leave the caches alone.
    """
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def timed(function: Callable[[], Any]) -> tuple[float, float]:
    """Returns the seconds, and the seconds of all threads, that a call took.

    Args:
        function: Function that returns what it computed as NumPy arrays or numbers, so that its work is done by then.
    """
    start, before = time.perf_counter(), cpu_seconds()
    function()
    return time.perf_counter() - start, cpu_seconds() - before


def count_operations(model: keras.Model, inputs: Any, stages: Mapping[str, str]) -> dict[str, float]:
    """Counts the operations of a network's convolutions and dense layers, a multiplication and an addition as two.

    Args:
        model: Network; it computes one answer, layer by layer.
        inputs: Its inputs.
        stages: Name of a stage -> regular expression for the whole names of its layers; the first that matches counts.

    Returns:
        Operations of each stage.
    """
    counted = dict.fromkeys(stages, 0.0)
    hooked = [layer for layer in model._flatten_layers() if isinstance(layer, (*_COUNTED, keras.layers.Dense))]

    def hook(layer: keras.Layer) -> None:
        call = layer.call

        def counting(given: Any, *args: Any, **options: Any) -> Any:
            outputs = call(given, *args, **options)
            stage = next(name for name, pattern in stages.items() if re.fullmatch(pattern, layer.name))
            counted[stage] += _operations(layer, given.shape, outputs.shape)
            return outputs

        layer.call = counting

    for layer in hooked:
        hook(layer)
    try:
        model(inputs, training=False)
    finally:
        for layer in hooked:
            del layer.call
    return counted


def _operations(layer: keras.Layer, inputs: Sequence[int], outputs: Sequence[int]) -> float:
    """Returns the operations of one call of a layer, by the shapes of its input and output."""
    if isinstance(layer, keras.layers.SeparableConv2D):
        weights = math.prod(layer.depthwise_kernel.shape) + math.prod(layer.pointwise_kernel.shape)
    else:
        weights = math.prod(layer.kernel.shape)
    # A transposed convolution uses its kernel once a cell of the input, the others once a cell of the output.
    cells = inputs if isinstance(layer, keras.layers.Conv2DTranspose) else outputs
    return 2.0 * weights * math.prod(cells[:-1])


def matrix_rate(precision: str) -> tuple[float, float]:
    """Measures how fast the backend multiplies matrices.

    Args:
        precision: "float32" or "mixed_bfloat16".

    Returns:
        Operations a second, and a second of one core: those of the fastest of several multiplications.
    """
    dtype = "bfloat16" if precision == "mixed_bfloat16" else "float32"
    rng = np.random.default_rng(0)
    side = _MATRIX_SIDE
    one, other = (keras.ops.cast(rng.normal(size=(side, side)), dtype) for _ in range(2))

    def multiply() -> float:
        return float(keras.ops.matmul(one, other)[0, 0])

    multiply()
    pairs = [timed(multiply) for _ in range(_MATRIX_RUNS)]
    return tuple(2.0 * side**3 / min(column) for column in zip(*pairs, strict=True))


def fraction_of_floor(
    operations: Mapping[str, float], precision: str, seconds: float, computed: float
) -> dict[str, Any]:
    """Compares what a network took with the time in which the machine multiplies matrices of as many operations.

    Args:
        operations: Stage -> operations, as `count_operations` returns them.
        precision: "float32" or "mixed_bfloat16".
        seconds: Time that was measured for these operations.
        computed: The same in seconds of all cores.

    Returns:
        The machine's rate, the floor in seconds of each stage, and the floor's fraction of both times: 1 for a network
        that does nothing but multiply.
    """
    rate, core_rate = matrix_rate(precision)
    total = sum(operations.values())
    return {
        "matrix_gigaoperations_per_second": round(rate / 1e9, 1),
        "gigaoperations": {stage: round(count / 1e9, 3) for stage, count in operations.items()},
        "floor_seconds": {stage: round(count / rate, 5) for stage, count in operations.items()},
        "fraction": round(total / rate / seconds, 3),
        "fraction_of_cpu_seconds": round(total / core_rate / computed, 3),
    }


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


def resident_memory_mb() -> float:
    """Returns the resident set of this process; the largest so far where the system does not report it."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return peak_memory_mb()
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


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
