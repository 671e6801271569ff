"""This project beside torchvision's Mask R-CNN and StarDist, on the same real images, in turn in one run.

Prints one JSON object. Each peer runs in a process of its own, in a virtual environment of its own below
`--environments`, which `--make-environments` makes: torchvision's takes 1 to 6 GB, as the package index has torch with
or without the libraries of GPUs. The processes live through the whole run and take turns, one task each, `--repeats`
times; the first call of a task, with its compilation, is not timed.

- `detect_float32`, `detect_bfloat16`: Mask R-CNN on ResNet-50 with FPN, one image of `--size` pixels a side, as many
  proposals and detections on both sides, with masks of image size;
- `step_float32`, `step_bfloat16`: a training step of all layers on `--batch` such images;
- `default`: the default model here and StarDist's published one, on all images at their own sizes, with
  `seconds_per_megapixel`.

`ratios` are the peer's medians over ours, above 1 where this project is faster: of the clock's seconds and of those of
all cores, which say more where other programs run. Networks of the four Mask R-CNN tasks have random weights on both
sides, and every proposal counts as an object, so that there are as many detections as there can be; `objects` says how
many there were. What cannot be had, such as a peer's environment or weights, stands under `missing`, and the rest is
done. `seconds_per_image` is that of the first task here.

    python benchmarks/peers.py --make-environments
    KERAS_BACKEND=jax python benchmarks/peers.py --tasks step_float32 step_bfloat16
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from common import load_dataset, make_parser, make_report, positive

from mrcnn.resizing import resize_image
from nucleus.datasets.dataset import NucleusDataset
from trainkit.files import write_text

FOLDER = Path(__file__).resolve().parent
OURS = "ours"
MASK_RCNN = ("detect_float32", "detect_bfloat16", "step_float32", "step_bfloat16")


@dataclass(frozen=True)
class Peer:
    """Another program.

    Attributes:
        script: File beside this one that runs it.
        packages: Requirements of its environment.
        tasks: Tasks that it can do.
    """

    script: str
    packages: tuple[str, ...]
    tasks: tuple[str, ...]


PEERS = {
    "torchvision": Peer("peer_torchvision.py", ("torch==2.14.1", "torchvision==0.29.1"), MASK_RCNN),
    "stardist": Peer("peer_stardist.py", ("stardist>=0.9", "tensorflow>=2.18", "tf_keras"), ("default",)),
}


class MissingError(Exception):
    """A peer cannot be run, or cannot do a task."""


class Worker:
    """Process that does tasks when asked; see `peer_loop`.

    Args:
        command: Interpreter and script.
        job: What the tasks have in common.
        threads: Threads of its libraries.

    Attributes:
        versions: Versions of its packages.

    Raises:
        MissingError: It ended before it was ready.
    """

    def __init__(self, command: Sequence[str | os.PathLike], job: dict[str, Any], threads: int):
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS")
        environment = {**os.environ, **dict.fromkeys(names, str(threads)), "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 Open as long as the process.
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._log, "text": True}
        self._process = subprocess.Popen(list(command), env=environment, **pipes)
        self.versions = self._ask(json.dumps(job))["versions"]

    def do(self, task: str) -> dict[str, Any]:
        """Does a task.

        Args:
            task: Its name.

        Returns:
            `seconds`, `cpu_seconds` and `objects`.

        Raises:
            MissingError: It failed; the message says why.
        """
        answer = self._ask(task)
        if "error" in answer:
            raise MissingError(answer["error"])
        return answer

    def close(self) -> None:
        """Ends the process."""
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._log.close()

    def _ask(self, line: str) -> dict[str, Any]:
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._log.seek(0)
            lines = self._log.read().split("\n")
            last = next((line for line in reversed(lines) if line.strip()), "no message")
            raise MissingError(f"its process ended: {last}")
        return json.loads(answer)


def make_environment(folder: Path, packages: Sequence[str]) -> None:
    """Makes a virtual environment with some packages from the index that pip is configured for.

    Args:
        folder: Folder to make; one that is there is left as it is.
        packages: Requirements.

    Raises:
        MissingError: The packages could not be installed.
    """
    if folder.exists():
        return
    venv.create(folder, with_pip=True)
    command = [interpreter(folder), "-m", "pip", "install", "--quiet", *packages]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingError(f"{' '.join(packages)} could not be installed: {done.stderr.strip().splitlines()[-1]}")


def interpreter(folder: Path) -> Path:
    """Returns the interpreter of a virtual environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def write_images(dataset: NucleusDataset, folder: Path, size: int) -> dict[str, Any]:
    """Writes the images for all processes.

    Args:
        dataset: Prepared data set with masks.
        folder: Folder to write into.
        size: Side of the squares that Mask R-CNN is shown.

    Returns:
        Entries of the job: the files `images` (squares and their label images) and `originals`, and `megapixels` of
        the latter together.
    """
    images = [dataset.load_image(image_id) for image_id in dataset.image_ids]
    squares, labels = [], []
    for image_id, image in zip(dataset.image_ids, images, strict=True):
        square, (y1, x1, y2, x2), *_ = resize_image(image, min_dim=size, max_dim=size, mode="square")
        # OpenCV resizes no int32; numbers of nuclei are exact in float32.
        own = dataset.load_labels(image_id)[0].astype(np.float32)
        placed = np.zeros((size, size), np.int32)
        placed[y1:y2, x1:x2] = cv2.resize(own, (x2 - x1, y2 - y1), interpolation=cv2.INTER_NEAREST)
        squares.append(square)
        labels.append(placed)
    np.savez(folder / "squares.npz", images=np.stack(squares), labels=np.stack(labels))
    np.savez(folder / "originals.npz", *images)
    return {
        "images": str(folder / "squares.npz"),
        "originals": str(folder / "originals.npz"),
        "megapixels": sum(image.shape[0] * image.shape[1] for image in images) / 1e6,
    }


def start(args: argparse.Namespace, job: dict[str, Any]) -> tuple[dict[str, Worker], dict[str, str]]:
    """Starts the processes of this project and of the peers that can be had.

    Args:
        args: The command line.
        job: The job of all.

    Returns:
        The processes by name, and the reasons for those that are missing.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join([str(FOLDER), *sys.path])
    workers = {OURS: Worker([sys.executable, FOLDER / "peer_ours.py"], job, args.threads)}
    # Packages of this environment are not the peers'.
    os.environ["PYTHONPATH"] = str(FOLDER)
    missing: dict[str, str] = {}
    for name in args.peers:
        peer, folder = PEERS[name], args.environments / name
        if not set(peer.tasks) & set(args.tasks):
            continue
        try:
            if args.make_environments:
                make_environment(folder, peer.packages)
            if not interpreter(folder).exists():
                raise MissingError(f"{folder}: no environment; --make-environments makes it")
            workers[name] = Worker([interpreter(folder), FOLDER / peer.script], job, args.threads)
        except MissingError as error:
            missing[name] = str(error)
    return workers, missing


def measure(
    workers: dict[str, Worker], tasks: Sequence[str], repeats: int, missing: dict[str, str]
) -> Iterator[dict[str, dict[str, dict[str, Any]]]]:
    """Lets the processes do every task in turn.

    Args:
        workers: The processes by name.
        tasks: Names of the tasks.
        repeats: Repetitions of each.
        missing: Gets an entry for a task that fails, which is not tried again.

    Yields:
        After each task, what is known: task -> name of the process -> medians of `seconds` and `cpu_seconds`, `objects`
        and `runs`.
    """
    measured: dict[str, dict[str, dict[str, Any]]] = {}
    for task in tasks:
        able = [name for name in workers if name == OURS or task in PEERS[name].tasks]
        answers: dict[str, list[dict[str, Any]]] = {name: [] for name in able}
        for _ in range(repeats):
            for name in able:
                if f"{name} {task}" in missing:
                    continue
                try:
                    answers[name].append(workers[name].do(task))
                except MissingError as error:
                    missing[f"{name} {task}"] = str(error)
        measured[task] = {name: _summarize(given) for name, given in answers.items() if given}
        yield measured


def _summarize(answers: Sequence[dict[str, Any]]) -> dict[str, Any]:
    medians = {kind: statistics.median(each[kind] for each in answers) for kind in ("seconds", "cpu_seconds")}
    return {
        **{kind: round(value, 4) for kind, value in medians.items()},
        "objects": answers[-1]["objects"],
        "runs": len(answers),
    }


def ratios(measured: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Returns the medians of each peer over ours: task -> peer -> `seconds` and `cpu_seconds`."""
    return {
        task: {
            peer: {
                kind: round(medians[kind] / by_name[OURS][kind], 2)
                for kind in ("seconds", "cpu_seconds")
                if by_name[OURS][kind]
            }
            for peer, medians in by_name.items()
            if peer != OURS
        }
        for task, by_name in measured.items()
        if OURS in by_name
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    parser = make_parser(__doc__)
    parser.add_argument("--environments", type=Path, default=Path(".peers"), help="folder (default: %(default)s)")
    parser.add_argument("--make-environments", action="store_true", help="make those that are not there")
    parser.add_argument("--peers", choices=PEERS, nargs="+", default=list(PEERS), help="default: all")
    tasks = (*MASK_RCNN, "default")
    parser.add_argument("--tasks", choices=tasks, nargs="+", default=list(tasks), help="default: all")
    parser.add_argument(
        "--size", type=positive, default=512, help="image side, a multiple of 64 (default: %(default)s)"
    )
    parser.add_argument("--batch", type=positive, default=2, help="images of a training step (default: %(default)s)")
    parser.add_argument("--proposals", type=positive, default=2000, help="at inference (default: %(default)s)")
    parser.add_argument("--detections", type=positive, default=400, help="at most (default: %(default)s)")
    parser.add_argument("--repeats", type=positive, default=5, help="timed repetitions (default: %(default)s)")
    parser.add_argument("--threads", type=positive, default=os.cpu_count(), help="of each process (default: all cores)")
    parser.add_argument(
        "--stardist-weights", default="2D_versatile_fluo", help="published name, or a model's folder (%(default)s)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="also write the JSON here, after every task")
    args = parser.parse_args(arguments)

    with tempfile.TemporaryDirectory() as folder:
        job = {
            **write_images(load_dataset(args), Path(folder), args.size),
            "dataset": str(args.dataset),
            "subset": args.subset,
            "size": args.size,
            "batch": args.batch,
            "proposals": args.proposals,
            "detections": args.detections,
            "pre_nms": 6000,
            "training_proposals": 2000,
            "training_anchors": 256,
            "training_rois": 128,
            "nms_threshold": 0.3,
            "stardist_weights": args.stardist_weights,
        }
        workers, missing = start(args, job)
        try:
            for measured in measure(workers, args.tasks, args.repeats, missing):
                report = describe(args, job, workers, measured, missing)
                if args.output is not None:
                    write_text(args.output, report + "\n")
        finally:
            for worker in workers.values():
                worker.close()
    print(report)


def describe(
    args: argparse.Namespace,
    job: dict[str, Any],
    workers: dict[str, Worker],
    measured: dict[str, dict[str, dict[str, Any]]],
    missing: dict[str, str],
) -> str:
    """Returns the JSON object of what is known; see the module's docstring."""
    for medians in measured.get("default", {}).values():
        medians["seconds_per_megapixel"] = round(medians["seconds"] / job["megapixels"], 4)
    results = {
        "seconds_per_image": measured[args.tasks[0]].get(OURS, {}).get("seconds"),
        "ratios": ratios(measured),
        "tasks": measured,
        "missing": missing,
        **{name: job[name] for name in ("size", "batch", "proposals", "detections")},
        "megapixels": round(job["megapixels"], 3),
        "threads": args.threads,
        "precision": "as each task says",
        "versions_of": {name: worker.versions for name, worker in workers.items()},
    }
    return make_report("peers", results)


if __name__ == "__main__":
    main()
