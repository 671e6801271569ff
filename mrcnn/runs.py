"""The folders of training runs: `<model_dir>/<name><date>/mask_rcnn_<name>_<epoch>.h5`."""

from __future__ import annotations

import datetime
import os
import re
from dataclasses import dataclass
from pathlib import Path

_RUN_FOLDER = re.compile(r"[\w-]*?\d{8}T\d{4}")
_CHECKPOINT = re.compile(r"mask_rcnn_[\w-]+?_(\d{4,})\.h5")


@dataclass(frozen=True)
class Run:
    """One training run.

    Attributes:
        folder: Its logs and checkpoints.
        epoch: Finished epochs.
    """

    folder: Path
    epoch: int = 0


def new_run(model_dir: str | os.PathLike, name: str) -> Run:
    """Returns a run that begins now; its folder is not made yet."""
    return Run(Path(model_dir) / f"{name.lower()}{datetime.datetime.now():%Y%m%dT%H%M}")


def run_of(weights: str | os.PathLike) -> Run | None:
    """Returns the run that a weights file is a checkpoint of, or None."""
    path = Path(weights)
    epoch = _CHECKPOINT.fullmatch(path.name)
    if epoch is None or _RUN_FOLDER.fullmatch(path.parent.name) is None:
        return None
    return Run(path.parent, int(epoch.group(1)))


def checkpoint_template(run: Run, name: str) -> str:
    """Returns the path of a run's checkpoints with `{epoch:04d}` in it."""
    return str(run.folder / f"mask_rcnn_{name.lower()}_{{epoch:04d}}.h5")


def last_checkpoint(model_dir: str | os.PathLike, name: str) -> Path:
    """Returns the checkpoint of the latest epoch in the latest run that has one.

    Args:
        model_dir: Folder of the runs.
        name: The configuration's NAME.

    Raises:
        FileNotFoundError: There is none.
    """
    prefix, root = name.lower(), Path(model_dir)
    folders = [path for path in root.glob(f"{prefix}*") if _RUN_FOLDER.fullmatch(path.name)]
    for folder in sorted(folders, reverse=True):
        checkpoints = [path for path in folder.iterdir() if _CHECKPOINT.fullmatch(path.name)]
        if checkpoints:
            return max(checkpoints, key=lambda path: run_of(path).epoch)
    raise FileNotFoundError(f"{root}: no checkpoint {prefix}<date>/mask_rcnn_{prefix}_<epoch>.h5 of an earlier run")
