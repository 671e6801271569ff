"""`Trainee`: a Keras model with its training run's folder, checkpoints and weights files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import keras

from trainkit.checkpoint import synchronise
from trainkit.hdf5 import LoadReport, load_weights, save_weights
from trainkit.runs import Run, RunFiles, RunLock, new_run


class Trainee:
    """Keras model with its configuration and its training run.

    A subclass sets the class attribute `run_files`, and `keras_model` in its constructor.

    Attributes:
        run_files: Names of the checkpoints.
        keras_model: Keras model.
        config: Configuration of the model; its NAME is part of the names of runs and checkpoints.
        model_dir: Folder of the training runs, one folder each.
        epoch: Number of finished epochs, including those of the run whose checkpoint was loaded.
        checkpoint: Checkpoint that was loaded and from which training resumes, or None.

    Args:
        config: Configuration of the model.
        model_dir: Folder of the training runs, one folder each.
    """

    run_files: RunFiles
    keras_model: keras.Model

    def __init__(self, config: Any, model_dir: str | os.PathLike):
        self.config = config
        self.model_dir = str(model_dir)
        self.checkpoint: Path | None = None
        self.epoch = 0
        self._resumed: Run | None = None
        self._new: Run | None = None
        self._lock: RunLock | None = None

    @property
    def _name(self) -> str:
        return self.config.NAME or self.run_files.prefix

    @property
    def _training_run(self) -> Run:
        """Training run; the first access to a new one creates its folder, so that no other process takes the name."""
        if self._resumed is not None:
            return self._resumed
        if self._new is None:
            self._new = new_run(self.model_dir, self._name)
        return self._new

    @property
    def log_dir(self) -> str:
        """Folder of this run's logs and checkpoints, `<model_dir>/<name><date>`; the first access creates it."""
        return str(self._training_run.folder)

    @property
    def checkpoint_path(self) -> str:
        """Path of the checkpoints, with `{epoch:04d}` in it."""
        return self.run_files.checkpoint_template(self._training_run, self._name)

    @property
    def best_path(self) -> Path:
        """Path of the weights of this run's best epoch."""
        return self.run_files.best_path(self.log_dir, self._name)

    def hold_run(self) -> AbstractContextManager[None]:
        """Returns a context that holds this run's folder, in which no other process or model can train meanwhile.

        Training holds it by itself; hold it around what else is written there before or after.

        Raises:
            LockedError: On entering: the run is being trained elsewhere; the message names the process.
        """
        if self._lock is None:
            self._lock = RunLock(Path(self.log_dir))
        return self._lock.hold()

    def find_last(self) -> str:
        """Returns the path of the last checkpoint of the last run in `model_dir`.

        Raises:
            FileNotFoundError: There is no checkpoint.
        """
        return str(self.run_files.last_checkpoint(self.model_dir, self._name))

    def set_log_dir(self, model_path: str | os.PathLike | None = None) -> None:
        """Chooses the run of `log_dir` and `checkpoint_path`, and sets `epoch`.

        Args:
            model_path: Checkpoint `…/<name><date>/<prefix>_<name>_<epoch>.h5`, whose run is resumed. By default, and
                for any other file, a new run begins.
        """
        run = self.run_files.run_of(model_path) if model_path else None
        if run is not None:
            print(f"Weights of epoch {run.epoch} of {run.folder}")
        self._choose(run, 0 if run is None else run.epoch)

    def continue_run_of(self, other: Trainee) -> None:
        """Takes over the run of another model: its folder, which is created, and its finished epochs.

        Args:
            other: Model of the same kind and name.
        """
        self._choose(other._training_run, other.epoch)
        other._lock = self._lock = other._lock or RunLock(Path(self.log_dir))

    def _choose(self, run: Run | None, epoch: int) -> None:
        """Sets the run, None for a new one, and its finished epochs."""
        if self._new is not None:
            # Files of a training stay; a folder in which nothing was written is removed.
            with suppress(OSError):
                self._new.folder.rmdir()
        self._resumed, self._new, self._lock, self.epoch = run, None, None, epoch

    def load_weights(
        self, filepath: str | os.PathLike, by_name: bool = False, exclude: Sequence[str] | None = None
    ) -> LoadReport:
        """Loads weights and, if they are a checkpoint of a run, resumes that run.

        Args:
            filepath: Weights file in HDF5.
            by_name: True to let layers that the file lacks keep their weights.
            exclude: Names of layers that keep their weights; implies `by_name`.

        Returns:
            Names of the loaded, missing and unused layers.

        Raises:
            WeightsFileError: The file cannot be read or belongs to another network; nothing is changed.
        """
        path = Path(filepath)
        report = self._read_weights(path, bool(by_name or exclude), exclude or ())
        self.set_log_dir(path)
        self.checkpoint = path if self.epoch else None
        return report

    def _read_weights(self, path: Path, by_name: bool, exclude: Sequence[str]) -> LoadReport:
        return load_weights(self.keras_model, path, exclude=exclude, by_name=by_name)

    def save_weights(self, filepath: str | os.PathLike, dtype: str | None = None) -> None:
        """Writes the weights in the layout of Keras's legacy HDF5 files, atomically.

        Args:
            filepath: File to write.
            dtype: Floating-point type to store; "float16" halves the file. By default the weights' own.
        """
        save_weights(self.keras_model, filepath, dtype=dtype)

    def copy_weights_from(self, other: Trainee) -> None:
        """Copies the weights of a model of the same architecture.

        Args:
            other: Model to copy from.

        Raises:
            ValueError: The architectures differ; nothing is changed.
        """
        synchronise(other.keras_model)
        ours, theirs = (_weights_by_path(model.keras_model) for model in (self, other))
        if ours.keys() != theirs.keys():
            different = sorted(ours.keys() ^ theirs.keys())
            raise ValueError(f"The models differ in architecture: {', '.join(different[:5])}")
        for path, variable in ours.items():
            variable.assign(theirs[path].value)


def _weights_by_path(model: keras.Model) -> dict[str, keras.Variable]:
    """Returns weights by layer and variable name, inner layers of nested models included."""
    found = {}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found.update(_weights_by_path(layer))
        else:
            found.update({f"{layer.name}/{w.name}": w for w in layer.weights if "seed_generator" not in w.path})
    return found
