"""Long work in steps, each with a record in its folder: what it was made from, how long it took, on what."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nucleus.datasets.provenance import differences, read_note, write_note

RECORD_FILE = "step.json"
_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "opencv-python", "lightgbm")


@dataclass(frozen=True)
class Record:
    """A step that was completed.

    Attributes:
        name: Of the step.
        inputs: All that its results depend on.
        outcome: What the work returned.
        seconds: That the call took which completed it; of a step that was interrupted, without what came before.
        finished: When, UTC; tells two runs of one step apart.
        environment: See `environment`.
    """

    name: str
    inputs: Mapping[str, Any]
    outcome: Mapping[str, Any]
    seconds: float
    finished: str
    environment: Mapping[str, Any]


class Steps:
    """Runs steps, except for those that were completed before with the same inputs.

    Attributes:
        records: Of all steps so far, in their order.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []

    def run(
        self,
        name: str,
        folder: Path,
        inputs: Mapping[str, Any],
        work: Callable[[], Mapping[str, Any] | None],
        results: Sequence[Path] = (),
    ) -> Record:
        """Does a step, unless its folder holds a record of it with these inputs, and its results are there.

        Args:
            name: Of the step.
            folder: Of its results and its record, its own.
            inputs: All that its results depend on, as JSON holds it.
            work: Does the step; may return what is to be noted of it, as JSON holds it.
            results: Files without which the step is done again.

        Returns:
            Its record.

        Raises:
            ValueError: The record that is there cannot be read.
        """
        record = read_note(folder / RECORD_FILE, Record)
        changed = [] if record is None else differences(record.inputs, inputs)
        if record is not None and not changed and all(path.is_file() for path in results):
            print(f"{name}: done before, in {record.seconds:.1f} s", flush=True)
        else:
            if changed:
                print(f"{name}: to be done again, since {changed[0]}", flush=True)
            print(f"{name} ...", flush=True)
            start = time.perf_counter()
            outcome = work() or {}
            seconds = round(time.perf_counter() - start, 1)
            finished = datetime.now(timezone.utc).isoformat()
            write_note(folder / RECORD_FILE, asdict(Record(name, inputs, outcome, seconds, finished, environment())))
            record = read_note(folder / RECORD_FILE, Record)
            print(f"{name}: {seconds:.1f} s", flush=True)
        self.records.append(record)
        return record


def environment() -> dict[str, Any]:
    """Returns what figures may depend on besides their inputs: backend, versions, processor, cores and system."""
    import keras

    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "backend": keras.backend.backend(),
        "versions": versions,
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }
