"""Folders and checkpoints of training runs: `<model_dir>/<name><date>/<prefix>_<name>_<epoch>.h5`."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from trainkit.locks import LockedError, exclusive

# In a run's folder while a process trains there.
LOCK_FILE = ".training.lock"
_DATE = r"\d{8}T\d{4}"
_DATE_FORMAT = "%Y%m%dT%H%M"


@dataclass(frozen=True)
class Run:
    """Training run.

    Attributes:
        folder: Folder of the run's logs and checkpoints.
        epoch: Number of finished epochs.
    """

    folder: Path
    epoch: int = 0


def new_run(model_dir: str | os.PathLike, name: str) -> Run:
    """Creates the folder of a run that begins now.

    The folder's date is the first minute from now on that no other run of this name has. Creating the folder is what
    claims the name, so that of two processes that begin together each gets its own.

    Args:
        model_dir: Folder of the runs.
        name: Name of the configuration.

    Raises:
        OSError: The folder cannot be created.
    """
    began = datetime.datetime.now()
    while True:
        folder = Path(model_dir) / f"{name.lower()}{began:{_DATE_FORMAT}}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            began += datetime.timedelta(minutes=1)
        else:
            return Run(folder)


class RunLock:
    """Lock on a run's folder, so that two processes that resume one run do not overwrite each other's epochs.

    It ends with the process, however that ends. Whoever has the object may hold the lock several times at once.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._held = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Holds the lock while a block runs; inside another such block, that one holds it.

        Raises:
            LockedError: Another process, or another model in this one, trains the run; the message names the process.
            OSError: The folder cannot be written.
        """
        if self._held:
            yield
            return
        path = self.folder / LOCK_FILE
        self.folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive(path))
            except LockedError as error:
                raise LockedError(
                    f"{self.folder}: {error.holder} trains this run, and two would overwrite each other. Wait until it "
                    "ends, or stop it; a copy of a checkpoint in another folder begins a run of its own",
                    error.holder,
                ) from None
            self._held = True
            try:
                yield
            finally:
                self._held = False
                # Windows removes no file that is open.
                with suppress(OSError):
                    path.unlink()


@dataclass(frozen=True)
class RunFiles:
    """Names of the checkpoints of one kind of model.

    Attributes:
        prefix: Beginning of the names, such as "mask_rcnn".

    Examples:
        >>> RunFiles("unet").run_of("logs/nucleus20240131T1200/unet_nucleus_0007.h5").epoch
        7
        >>> RunFiles("unet").run_of("weights/nucleus_unet.h5") is None
        True
    """

    prefix: str

    def run_of(self, weights: str | os.PathLike) -> Run | None:
        """Returns the run of a checkpoint, or None for any other file.

        Args:
            weights: Path of a weights file; it need not exist.
        """
        path = Path(weights)
        checkpoint = re.fullmatch(rf"{re.escape(self.prefix)}_(.+)_(\d{{4,}})\.h5", path.name)
        if checkpoint is None or re.fullmatch(rf".+?{_DATE}", path.parent.name) is None:
            return None
        return Run(path.parent, int(checkpoint.group(2)))

    def checkpoint_template(self, run: Run, name: str) -> str:
        """Returns the path of a run's checkpoints with `{epoch:04d}` in it.

        Args:
            run: Run of the checkpoints.
            name: Name of the configuration.
        """
        return str(run.folder / f"{self.prefix}_{name.lower()}_{{epoch:04d}}.h5")

    def best_path(self, run_folder: str | os.PathLike, name: str) -> Path:
        """Returns the path of the weights of a run's best epoch.

        Args:
            run_folder: Folder of the run.
            name: Name of the configuration.
        """
        return Path(run_folder) / f"{self.prefix}_{name.lower()}_best.h5"

    def last_checkpoint(self, model_dir: str | os.PathLike, name: str) -> Path:
        """Returns the checkpoint of the latest epoch in the latest run that has one.

        Args:
            model_dir: Folder of the runs.
            name: Name of the configuration; runs of longer names that begin with it do not count.

        Raises:
            FileNotFoundError: There is no checkpoint.
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
