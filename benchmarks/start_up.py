"""Time of `nucleus detect` from the start of its process to the results of one image, and where it goes.

Prints one JSON object. The command runs in a new process each time, in Keras and by the exported networks that stand
beside the weights, in turn:

- `keras`, `exported`: medians of the whole process, in seconds and in seconds of all cores;
- `stages`: seconds of all cores of the parts of one such process each: importing the command line, importing Keras,
  loading the model, the first and the second prediction of the image, whose difference is what the first one prepares.

`seconds_per_image` is the median of `exported`, in seconds of the clock.

    python benchmarks/start_up.py
    python benchmarks/start_up.py --weights nucleus_light --image cells.png
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from common import make_parser, positive, print_report

from nucleus import shipped_data

_STAGES = """
import json, sys, time
marks = [("python", time.process_time())]
def mark(name):
    marks.append((name, time.process_time()))
import nucleus.cli
mark("command_line")
import os
if "KERAS_BACKEND" in os.environ:
    from nucleus.quiet import import_keras
    import_keras(plots=False)
    mark("import_keras")
from nucleus.models.loading import resolve
model = resolve(sys.argv[1]).fastest().load()
mark("load_model")
from nucleus import read_image
image = read_image(sys.argv[2])
mark("read_image")
for name in ("first_prediction", "second_prediction"):
    model.predict(image)
    mark(name)
print(json.dumps({name: round(now - then, 3) for (_, then), (name, now) in zip(marks, marks[1:])}))
"""


# Backend that is named in the environment, which is how to choose between the two.
_BACKENDS = {"keras": "tensorflow", "exported": None}


def run(arguments: Sequence[str | os.PathLike], backend: str | None) -> tuple[float, float, str]:
    """Returns the seconds, the seconds of all cores, and the output of a Python process of this environment."""
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    environment |= {} if backend is None else {"KERAS_BACKEND": backend}
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([sys.executable, *arguments], env=environment, check=True, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, sum(getattr(after, kind) - getattr(before, kind) for kind in ("ru_utime", "ru_stime")), done.stdout


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--weights", default="shipped", help="weights with the exported file beside them (default: %(default)s)"
    )
    parser.add_argument("--image", type=Path, default=_small_image(), help="image file (default: a small shipped one)")
    parser.add_argument("--repeats", type=positive, default=3, help="timed processes of each (default: %(default)s)")
    args = parser.parse_args(arguments)

    runs: dict[str, list[tuple[float, float, str]]] = {name: [] for name in _BACKENDS}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(args.repeats):
            for name, backend in _BACKENDS.items():
                output = f"--output={Path(folder, f'{name}{number}')}"
                command = ["-m", "nucleus", "detect", args.image, f"--weights={args.weights}", output]
                runs[name].append(run(command, backend))
    stages = {
        name: json.loads(run(["-c", _STAGES, args.weights, args.image], backend)[2])
        for name, backend in _BACKENDS.items()
    }
    results = {
        name: {
            "median_seconds": round(statistics.median(seconds for seconds, *_ in timed), 3),
            "cpu_seconds": round(statistics.median(computed for _, computed, _ in timed), 3),
            "runs": len(timed),
        }
        for name, timed in runs.items()
    }
    print_report(
        "start_up",
        {
            "seconds_per_image": results["exported"]["median_seconds"],
            **results,
            "stages": stages,
            "weights": args.weights,
            "image": args.image.name,
            "precision": "float32",
        },
    )


def _small_image() -> Path:
    """Returns the smallest file among the shipped images."""
    return min(shipped_data().glob("*/*/images/*.png"), key=lambda path: path.stat().st_size)


if __name__ == "__main__":
    main()
