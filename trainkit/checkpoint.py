"""Checkpoints: one file for each epoch, from which training resumes as if it had never stopped.

A checkpoint is a weights file in the legacy layout (see `trainkit.hdf5_layout`) with one group more,
`training_state`, which is not listed in `layer_names`, so that readers of weights pass over it. Weights and state
are one file because two files cannot be replaced in one step.

Where the optimizer keeps a moving average of the weights, the average is what the file has as its weights, and the
weights themselves are part of the training state: whoever predicts with a checkpoint predicts with the average.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import h5py
import keras
import numpy as np

from trainkit.averaging import averaged_weights, compiled_optimizer
from trainkit.hdf5 import as_assigned, repack_weights, write_weights
from trainkit.hdf5_files import WeightsFileError, open_for_reading, open_for_writing
from trainkit.hdf5_layout import read_numbers

_GROUP = "training_state"
_VERSION = 1


class CheckpointError(ValueError):
    """Training state that does not fit the model or the optimizer."""


@dataclass(frozen=True)
class TrainingState:
    """State of a training besides the weights, needed to resume it.

    Attributes:
        epoch: Number of finished epochs, the `initial_epoch` of the resumed run.
        seed: Seed of the run.
        stage: Description of the training stage, such as {"layers": "heads", "learning_rate": 0.001}.
        optimizer: Names and values of the optimizer's variables, in its order; empty if none was saved.
        variables: Names and values of the model's variables that are no weights (the states of the random
            generators of its layers), in its order.
        weights: Names and values of the trainable weights, in the model's order, where the file's weights are their
            averages; empty where they are not.
    """

    epoch: int
    seed: int
    stage: dict[str, Any]
    optimizer: list[tuple[str, np.ndarray]] = field(default_factory=list)
    variables: list[tuple[str, np.ndarray]] = field(default_factory=list)
    weights: list[tuple[str, np.ndarray]] = field(default_factory=list)


def save_checkpoint(
    path: str | os.PathLike,
    model: keras.Model,
    *,
    epoch: int,
    seed: int,
    stage: dict[str, Any],
) -> None:
    """Writes a model's weights and the state of its training into one file, atomically.

    Args:
        path: File to write.
        model: Model in training.
        epoch: Number of finished epochs.
        seed: Seed of the run.
        stage: Description of the training stage; anything that JSON can hold.

    Raises:
        WeightsFileError: The layout cannot hold the model (see `save_weights`).
        TypeError: JSON cannot hold `stage`.
        OSError: The file cannot be written.
    """
    synchronise(model)
    optimizer = compiled_optimizer(model)
    described = json.dumps(stage, sort_keys=True)
    with averaged_weights(model) as weights, open_for_writing(path) as file:
        write_weights(file, model)
        group = file.create_group(_GROUP)
        group.attrs.update({"version": _VERSION, "epoch": epoch, "seed": seed, "stage": described})
        _write_variables(group.create_group("optimizer"), _named(optimizer.variables if optimizer else []))
        _write_variables(group.create_group("variables"), _named(_generator_states(model)))
        paths = [variable.path for variable in model.trainable_variables] if weights else []
        _write_variables(group.create_group("weights"), zip(paths, weights, strict=True))


def read_training_state(path: str | os.PathLike) -> TrainingState | None:
    """Reads the training state from a checkpoint.

    Args:
        path: Checkpoint, or any weights file in HDF5.

    Returns:
        The state, or None if the file holds weights only.

    Raises:
        WeightsFileError: The file is missing or damaged, or its state is of an unknown version.
    """
    with open_for_reading(path) as file:
        if _GROUP not in file:
            return None
        group = file[_GROUP]
        version = _whole_number(group, "version")
        if version != _VERSION:
            raise WeightsFileError(f"{path}: its training state is of version {version}, not {_VERSION}")
        stage = json.loads(group.attrs["stage"])
        if not isinstance(stage, dict):
            raise ValueError(f"the stage of its training state is {type(stage).__name__} and not an object")
        return TrainingState(
            epoch=_whole_number(group, "epoch"),
            seed=_whole_number(group, "seed"),
            stage=stage,
            optimizer=_read_variables(group["optimizer"]),
            variables=_read_variables(group["variables"]),
            # Files of before averages were kept lack it.
            weights=_read_variables(group["weights"]) if "weights" in group else [],
        )


def restore_training_state(model: keras.Model, optimizer: keras.Optimizer | None, state: TrainingState) -> None:
    """Restores optimizer and random generators from a checkpoint; the file's weights are loaded separately.

    Where the file's weights are averages, the weights themselves are restored with the optimizer that averages them.

    Variables are matched by order, since automatic names differ from run to run. The caller compares the stages: with
    other layers trainable, the optimizer has other variables.

    Args:
        model: Model, built like the one that was saved.
        optimizer: Optimizer of the model, already built (`optimizer.build(model.trainable_variables)`); None restores
            the random generators alone.
        state: State to restore.

    Raises:
        CheckpointError: Number, shapes or types of the variables differ; nothing is changed.
    """
    pairs = [] if optimizer is None else _pairs("optimizer", optimizer.variables, state.optimizer)
    if optimizer is not None and state.weights:
        pairs += _pairs("model", model.trainable_variables, state.weights)
    pairs += _pairs("model's random generators", _generator_states(model), state.variables)
    for variable, array in pairs:
        variable.assign(array)


def strip_training_state(path: str | os.PathLike) -> None:
    """Rewrites a checkpoint as a plain weights file, atomically; a file without a state is left as it is.

    Args:
        path: Checkpoint to rewrite.

    Raises:
        WeightsFileError: The file is missing or damaged.
        OSError: The file cannot be written.
    """
    with open_for_reading(path) as file:
        has_state = _GROUP in file
    if not has_state:
        return
    repack_weights(path, path, dtype=None, compress=False)


def synchronise(model: keras.Model) -> None:
    """Updates a model's variables in the middle of `fit`: on JAX the trainer keeps their values elsewhere.

    Args:
        model: Model, in training or not.
    """
    if keras.backend.backend() == "jax":
        model.jax_state_sync()


def _generator_states(model: keras.Model) -> list[keras.Variable]:
    """Returns the model's variables that are no weights: the states of its seed generators."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]


def _named(variables: Iterable[keras.Variable]) -> Iterator[tuple[str, np.ndarray]]:
    return ((variable.path, keras.ops.convert_to_numpy(variable)) for variable in variables)


def _write_variables(group: h5py.Group, variables: Iterable[tuple[str, np.ndarray]]) -> None:
    """Stores arrays under their positions, with their paths as attributes."""
    for number, (path, array) in enumerate(variables):
        # HDF5 has no bfloat16; float32 holds its values exactly.
        array = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        group.create_dataset(f"{number:05d}", data=array).attrs["path"] = path


def _read_variables(group: h5py.Group) -> list[tuple[str, np.ndarray]]:
    """Reads the paths and values of `_write_variables`; HDF5 lists a group's members by name, here the position."""
    return [(str(dataset.attrs["path"]), read_numbers(dataset)) for dataset in group.values()]


def _whole_number(group: h5py.Group, name: str) -> int:
    """Reads an attribute that is a whole number from 0 on."""
    value = group.attrs[name]
    if not isinstance(value, int | np.integer) or value < 0:
        raise ValueError(f"{name} of its training state must be a whole number from 0 on; found {value!r}")
    return int(value)


def _pairs(
    what: str, variables: list[keras.Variable], saved: list[tuple[str, np.ndarray]]
) -> list[tuple[keras.Variable, np.ndarray]]:
    """Pairs variables with saved values of the same shape and kind."""
    if len(variables) != len(saved):
        raise CheckpointError(
            f"the {what} has {len(variables)} variables and the checkpoint {len(saved)}: "
            "another optimizer, or other trainable layers"
        )
    pairs = []
    for variable, (path, array) in zip(variables, saved, strict=True):
        if tuple(variable.shape) != array.shape:
            raise CheckpointError(
                f"the {what}'s variable {variable.path} has the shape {tuple(variable.shape)} and {path} in the "
                f"checkpoint {array.shape}: another optimizer, or other trainable layers"
            )
        try:
            pairs.append((variable, as_assigned(array, variable.dtype)))
        except ValueError as error:
            raise CheckpointError(
                f"the {what}'s variable {variable.path}, {path} in the checkpoint, {error}"
            ) from error
    return pairs
