"""Callbacks at the end of an epoch: checkpoint, log, evaluation.

A callback that adds to the logs is seen by those after it in the list. EpochCheckpoint goes first, so that others find
the checkpoint of their epoch; then PeriodicEvaluation; then the loggers, ResumableCSVLogger and TensorBoard.
"""

import csv
import glob
import importlib.util
import io
import json
import logging
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from trainkit.averaging import averaged_weights
from trainkit.checkpoint import save_checkpoint, strip_training_state, synchronise
from trainkit.files import remove_leftovers, write_text
from trainkit.hdf5 import save_weights
from trainkit.hdf5_files import WeightsFileError
from trainkit.reading import read_json, reading

logger = logging.getLogger(__name__)

# Number of an epoch in a training log.
_EPOCH = re.compile(r"[0-9]{1,9}")
# Key of the fields of a row that the log's first line does not name.
_SURPLUS = "more fields"


class EpochCheckpoint(keras.callbacks.Callback):
    """Writes a checkpoint after every epoch, from which a killed run resumes.

    What a killed run left is put in order at the next epoch's end: temporary files are removed, and all checkpoints
    but the last are reduced to their weights.

    Args:
        path_template: Path whose file name has a field for the number of finished epochs, such as
            `logs/run/mask_rcnn_{epoch:04d}.h5`.
        seed: Seed of the run, kept in the checkpoint.
        stage: Description of the training stage, kept in the checkpoint; anything that JSON can hold.

    Raises:
        ValueError: The file name has no field for the epoch.
    """

    def __init__(self, path_template: str | os.PathLike, seed: int, stage: dict[str, Any]):
        super().__init__()
        self._template = Path(path_template)
        self._seed = seed
        self._stage = stage
        # The epochs from this one on may have checkpoints with their state.
        self._first_whole = 1
        if self.path(1) == self.path(2):
            raise ValueError(f"{path_template}: the file name needs a field for the epoch, such as {{epoch:04d}}")

    def path(self, epoch: int) -> Path:
        """Returns the path of the checkpoint after `epoch` finished epochs."""
        return self._template.with_name(self._template.name.format(epoch=epoch))

    def on_epoch_end(self, epoch, logs=None):
        finished = epoch + 1
        remove_leftovers(self._template.parent, re.sub(r"\{.*?\}", "*", glob.escape(self._template.name)))
        save_checkpoint(self.path(finished), self.model, epoch=finished, seed=self._seed, stage=self._stage)
        for earlier in range(self._first_whole, finished):
            if self.path(earlier).exists():
                self._strip(self.path(earlier))
        self._first_whole = finished

    def _strip(self, path: Path) -> None:
        try:
            strip_training_state(path)
        except WeightsFileError as error:
            # A training needs no earlier checkpoint.
            logger.warning("%s; it is left as it is", error)


class ResumableCSVLogger(keras.callbacks.Callback):
    """Keeps one row for each epoch in a CSV file, over all runs of a training.

    The column `epoch` counts finished epochs, as the names of the checkpoints do. A run that resumes from an earlier
    epoch drops the rows after it, and quantities that appear later get a column of their own. The file is rewritten
    atomically after every epoch; a second call for an epoch replaces its row.

    Args:
        path: CSV file to write.
    """

    def __init__(self, path: str | os.PathLike):
        super().__init__()
        self._path = Path(path)
        self._rows: list[dict[str, Any]] | None = None

    def on_train_begin(self, logs=None):
        self._rows = None
        remove_leftovers(self._path.parent, glob.escape(self._path.name))

    def on_epoch_begin(self, epoch, logs=None):
        if self._rows is None:
            self._rows = [row for row in self._read() if int(row["epoch"]) <= epoch]

    def on_epoch_end(self, epoch, logs=None):
        earlier = [row for row in self._rows if int(row["epoch"]) <= epoch]
        self._rows = [*earlier, {"epoch": epoch + 1, **(logs or {})}]
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self._path, text.getvalue())

    def _read(self) -> list[dict[str, Any]]:
        """Returns the rows of earlier runs, without empty cells.

        Raises:
            ValueError: The file is not a training log.
        """
        if not self._path.exists():
            return []
        with (
            reading(self._path, "not a training log"),
            self._path.open(newline="", encoding="utf-8") as file,
        ):
            reader = csv.DictReader(file, restkey=_SURPLUS)
            rows = [{name: cell for name, cell in row.items() if cell} for row in reader]
            if any(_SURPLUS in row for row in rows):
                raise ValueError("there are rows with more fields than the first line")
            if not all(_EPOCH.fullmatch(row.get("epoch", "")) for row in rows):
                raise ValueError("there are rows without a number in `epoch`")
            return rows


class PeriodicEvaluation(keras.callbacks.Callback):
    """Measures the model every few epochs and after the last one, and keeps the best weights.

    The results join the epoch's logs as `val_<name>`. The best value so far is kept in a JSON file beside the best
    weights, so that a resumed run compares with it.

    Args:
        evaluate: Function without arguments that returns the results by name; the model holds the epoch's weights.
        every: Number of epochs between evaluations, 1 or more.
        best_path: Weights file for the best epoch; the best value is kept beside it with the suffix `.json`.
        monitor: Name of the result that decides; higher is better.
        first: Epoch of the first evaluation, counted from 1; by default `every`.

    Raises:
        ValueError: `every` or `first` is below 1.
    """

    def __init__(
        self,
        evaluate: Callable[[], dict[str, float]],
        every: int,
        best_path: str | os.PathLike,
        monitor: str = "mAP",
        first: int | None = None,
    ):
        super().__init__()
        first = every if first is None else first
        if every < 1 or first < 1:
            raise ValueError(f"every and first must be at least 1 epoch. Received: every={every}, first={first}")
        self._evaluate = evaluate
        self._every, self._first = every, first
        self._best_path = Path(best_path)
        self._record_path = self._best_path.with_suffix(".json")
        self._monitor = monitor
        # What a record of the best epoch was compared by.
        self._compared = {"monitor": monitor, "mode": "max"}

    def on_train_begin(self, logs=None):
        for path in (self._best_path, self._record_path):
            remove_leftovers(path.parent, glob.escape(path.name))

    def on_epoch_end(self, epoch, logs=None):
        finished = epoch + 1
        due = finished >= self._first and (finished - self._first) % self._every == 0
        if not due and finished != self.params["epochs"]:
            return
        synchronise(self.model)
        with averaged_weights(self.model):
            self._score(finished, logs)

    def _score(self, finished: int, logs: dict[str, float] | None) -> None:
        results = {name: float(value) for name, value in self._evaluate().items()}
        if logs is not None:
            logs.update({f"val_{name}": value for name, value in results.items()})
        if self._monitor not in results:
            raise ValueError(f"the evaluation has no result {self._monitor!r}. Received: {sorted(results)}")
        value = results[self._monitor]
        if self._is_better(value):
            save_weights(self.model, self._best_path)
            record = {**self._compared, "value": value, "epoch": finished}
            write_text(self._record_path, json.dumps(record, indent=1) + "\n")

    def _is_better(self, value: float) -> bool:
        """Returns whether a value beats the best of this and earlier runs; NaN beats nothing."""
        if math.isnan(value):
            return False
        best = self._best()
        return best is None or value > best

    def _best(self) -> float | None:
        """Returns the best value so far, or None if none was recorded for this monitor or its weights are gone.

        Raises:
            ValueError: The record cannot be read.
        """
        if not (self._record_path.exists() and self._best_path.exists()):
            return None
        what = "not a record of the best epoch"
        record = read_json(self._record_path, what)
        with reading(self._record_path, what):
            if {name: record[name] for name in self._compared} != self._compared:
                return None
            value = record["value"]
            if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
                raise ValueError(f"its value must be a number. Received: {value!r}")
            return float(value)


def tensorboard_callback(log_dir: str | os.PathLike) -> keras.callbacks.TensorBoard | None:
    """Returns a callback that writes the logs for TensorBoard, or None with a warning.

    Keras writes them through TensorFlow's summaries, on every backend, and those need the package tensorboard.

    Args:
        log_dir: Folder of the event files.

    Returns:
        The callback, or None if TensorFlow or TensorBoard is not installed.
    """
    absent = [name for name in ("tensorflow", "tensorboard") if importlib.util.find_spec(name) is None]
    if absent:
        logger.warning("No logs for TensorBoard in %s: %s not installed.", log_dir, " and ".join(absent))
        return None
    return keras.callbacks.TensorBoard(str(log_dir), histogram_freq=0, write_graph=False)
