"""The loop of a process that `peers.py` asks to do one task after the other. Needs the standard library alone.

The first line of standard input is a job, a JSON object; every further line names a task. The answer to each is a line
with the seconds and the seconds of all cores that it took, or with an error. A task is prepared, and done once without
being timed, when it is named for the first time.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

# A task that is ready to be done; returns the number of objects found, or 0.
Task = Callable[[], int]


def serve(tasks: Mapping[str, Callable[[dict[str, Any]], Task]], packages: tuple[str, ...]) -> None:
    """Answers until standard input ends.

    Args:
        tasks: Name -> function from the job to the prepared task.
        packages: Distributions whose versions the first answer names.
    """
    # Libraries print to standard output as well.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(content: dict[str, Any]) -> None:
        answers.write(json.dumps(content) + "\n")
        answers.flush()

    job = json.loads(sys.stdin.readline())
    answer({"versions": {name: importlib.metadata.version(name) for name in packages}})
    ready: dict[str, Task] = {}
    for line in sys.stdin:
        name = line.strip()
        try:
            if name not in ready:
                ready[name] = tasks[name](job)
                ready[name]()
            answer(_timed(ready[name]))
        # Whatever a library raises is told to the user, and the other tasks go on.
        except Exception as error:
            lines = str(error).splitlines() or [""]
            answer({"error": f"{type(error).__name__}: {lines[0]}"})


def _timed(task: Task) -> dict[str, Any]:
    start, before = time.perf_counter(), _cpu_seconds()
    found = task()
    return {"seconds": time.perf_counter() - start, "cpu_seconds": _cpu_seconds() - before, "objects": found}


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
