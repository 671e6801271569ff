"""Steps of long work, each with a record of its inputs, duration and environment in its folder."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from nucleus.datasets.provenance import differences, read_note, write_note
from nucleus.version import package_version

RECORD_FILE = "step.json"
_PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy", "opencv-python", "lightgbm")


@dataclass(frozen=True)
class StepRecord:
    """Record of a completed step.

    Attributes:
        name: Name of the step.
        inputs: Everything that the results depend on.
        outcome: Return value of the work.
        seconds: Duration of the call that completed the step, without earlier interrupted calls.
        finished: Time of completion, UTC, ISO 8601; distinguishes two runs of one step.
        environment: Backend, versions and machine; see `environment`.
    """

    name: str
    inputs: Mapping[str, Any]
    outcome: Mapping[str, Any]
    seconds: float
    finished: str
    environment: Mapping[str, Any]


class Steps:
    """Runner of steps, which skips those that were completed before with the same inputs.

    Attributes:
        records: Records of all steps so far, in their order.
    """

    def __init__(self) -> None:
        self.records: list[StepRecord] = []

    def run(
        self,
        name: str,
        folder: Path,
        inputs: Mapping[str, Any],
        work: Callable[[], Mapping[str, Any] | None],
        results: Sequence[Path] = (),
    ) -> StepRecord:
        """Runs a step, unless its folder holds a record with the same inputs and all result files.

        Args:
            name: Name of the step.
            folder: Folder of the step's results and record, used by no other step.
            inputs: Everything that the results depend on, as JSON-compatible values.
            work: Function that does the step; may return facts to record, as JSON-compatible values.
            results: Result files; the step is run again if one is missing.

        Returns:
            The record of the step.

        Raises:
            ValueError: The existing record cannot be read.
        """
        record = read_note(folder / RECORD_FILE, StepRecord)
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
            write_note(
                folder / RECORD_FILE, asdict(StepRecord(name, inputs, outcome, seconds, finished, environment()))
            )
            record = read_note(folder / RECORD_FILE, StepRecord)
            print(f"{name}: {seconds:.1f} s", flush=True)
        self.records.append(record)
        return record


def environment() -> dict[str, Any]:
    """Returns the environment that results may depend on: backend, versions, processor, cores and system."""
    import keras

    installed = {package: package_version(package) for package in _PACKAGES}
    known = {package: version for package, version in installed.items() if version is not None}
    return {
        "backend": keras.backend.backend(),
        "versions": {"python": platform.python_version(), **known},
        "machine": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
    }
