"""An exported U-Net beside the same weights in Keras: time of an image, and of a process to its first result.

Prints one JSON object. The weights are exported to ONNX first; then the two take turns:

- `network`: probabilities of one image of `--size` pixels a side, after a first one, whose graph is not timed;
- `process`: a new process that imports `nucleus`, loads the model and finds the nuclei of a shipped image;
- `process_cpu`: the same in seconds of all cores, which say more where other programs run;
- `times_faster`: Keras' median over ONNX Runtime's, for each.

`seconds_per_image` is that of the network in ONNX Runtime.

    python benchmarks/exported.py
    python benchmarks/exported.py --weights nucleus_unet --size 1024
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import make_parser, positive, print_report, summarize, time_calls

from nucleus import export, load_model, shipped_data
from nucleus.models.base import NucleusModel

_FIRST_RESULT = (
    "import sys; from nucleus import load_model, read_image; load_model(sys.argv[1]).predict(read_image(sys.argv[2]))"
)


def time_networks(models: dict[str, NucleusModel], side: int, repeats: int) -> dict[str, list[float]]:
    """Returns the seconds that the networks of some models take for an image, in turn.

    Args:
        models: Name -> model.
        side: Side of the image in pixels.
        repeats: Images for each.
    """
    image = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        model.observe([image])
    for _ in range(repeats):
        for name, model in models.items():
            seconds[name] += time_calls(lambda pixels, model=model: model.observe([pixels]), [image])
    return seconds


def time_process(weights: str | os.PathLike, image: Path) -> tuple[float, float]:
    """Returns the seconds, and the seconds of all cores, of a process that finds the nuclei of one image."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", _FIRST_RESULT, weights, image], env=environment, check=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, sum(getattr(after, kind) - getattr(before, kind) for kind in ("ru_utime", "ru_stime"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark; see the module's docstring."""
    parser = make_parser(__doc__)
    parser.add_argument("--weights", default="nucleus_light", help="weights of a U-Net (default: %(default)s)")
    parser.add_argument("--size", type=positive, default=512, help="image side (default: %(default)s)")
    parser.add_argument("--repeats", type=positive, default=10, help="timed images (default: %(default)s)")
    parser.add_argument("--processes", type=positive, default=3, help="timed processes (default: %(default)s)")
    args = parser.parse_args(arguments)
    shown = min(shipped_data().glob("*/*/images/*.png"))
    with tempfile.TemporaryDirectory() as folder:
        files = {"keras": args.weights, "onnx": export(args.weights, Path(folder) / "exported.onnx")}
        settings = {"SCALE": 1.0, "TILE_SIZE": 0}
        models = {name: load_model(file, settings=settings) for name, file in files.items()}
        network = time_networks(models, args.size, args.repeats)
        runs = {name: [] for name in files}
        for _ in range(args.processes):
            for name, file in files.items():
                runs[name].append(time_process(file, shown))
    wall, cores = ({name: [run[kind] for run in runs[name]] for name in files} for kind in (0, 1))
    parts = {"network": network, "process": wall, "process_cpu": cores}
    results = {name: {kind: summarize(seconds) for kind, seconds in timed.items()} for name, timed in parts.items()}
    results["times_faster"] = {
        name: round(timed["keras"]["median_seconds"] / timed["onnx"]["median_seconds"], 2)
        for name, timed in results.items()
    }
    results["seconds_per_image"] = results["network"]["onnx"]["median_seconds"]
    print_report(
        "exported",
        {**results, "weights": args.weights, "image_size": [args.size, args.size], "precision": "float32"},
    )


if __name__ == "__main__":
    main()
