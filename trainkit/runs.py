"""The folders of training runs: `<model_dir>/<name><date>/<prefix>_<name>_<epoch>.h5`, and the model that owns one."""

from __future__ import annotations

import datetime
import os
import re
from dataclasses import dataclass
from pathlib import Path

_DATE = r"\d{8}T\d{4}"
_DATE_FORMAT = "%Y%m%dT%H%M"


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
    """Returns a run that begins now; its folder is not made yet.

    The folder's date is the first minute from now on that no other run of this name has, so that two runs which
    begin together do not overwrite each other's checkpoints.
    """
    began = datetime.datetime.now()
    while (folder := Path(model_dir) / f"{name.lower()}{began:{_DATE_FORMAT}}").exists():
        began += datetime.timedelta(minutes=1)
    return Run(folder)


@dataclass(frozen=True)
class RunFiles:
    """The checkpoints of one kind of model.

    Attributes:
        prefix: What their names begin with, such as "mask_rcnn".
    """

    prefix: str

    def run_of(self, weights: str | os.PathLike) -> Run | None:
        """Returns the run that a weights file is a checkpoint of, or None."""
        path = Path(weights)
        checkpoint = re.fullmatch(rf"{re.escape(self.prefix)}_(.+)_(\d{{4,}})\.h5", path.name)
        if checkpoint is None or re.fullmatch(rf".+?{_DATE}", path.parent.name) is None:
            return None
        return Run(path.parent, int(checkpoint.group(2)))

    def checkpoint_template(self, run: Run, name: str) -> str:
        """Returns the path of a run's checkpoints with `{epoch:04d}` in it."""
        return str(run.folder / f"{self.prefix}_{name.lower()}_{{epoch:04d}}.h5")

    def best_path(self, run_folder: str | os.PathLike, name: str) -> Path:
        """Returns the path of the weights of a run's best epoch."""
        return Path(run_folder) / f"{self.prefix}_{name.lower()}_best.h5"

    def last_checkpoint(self, model_dir: str | os.PathLike, name: str) -> Path:
        """Returns the checkpoint of the latest epoch in the latest run that has one.

        Args:
            model_dir: Folder of the runs.
            name: The configuration's NAME; runs of other names that begin with it do not count.

        Raises:
            FileNotFoundError: There is none.
        """
        root, name = Path(model_dir), name.lower()
        folder_name = re.compile(rf"{re.escape(name)}{_DATE}")
        file_name = re.compile(rf"{re.escape(self.prefix)}_{re.escape(name)}_\d{{4,}}\.h5")
        folders = [path for path in (root.iterdir() if root.is_dir() else ()) if folder_name.fullmatch(path.name)]
        for folder in sorted(folders, reverse=True):
            checkpoints = [path for path in folder.iterdir() if file_name.fullmatch(path.name)]
            if checkpoints:
                return max(checkpoints, key=lambda path: self.run_of(path).epoch)
        raise FileNotFoundError(f"{root}: no checkpoint {name}<date>/{self.prefix}_{name}_<epoch>.h5 of an earlier run")
