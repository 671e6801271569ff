"""What every training here does alike: choose the layers, make the optimizer, resume, guard, log, keep every epoch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from trainkit.batches import Batches
from trainkit.callbacks import EpochCheckpoint, ResumableCSVLogger, tensorboard_callback
from trainkit.checkpoint import read_training_state, restore_training_state
from trainkit.trainee import Trainee


def set_trainable(
    layers: str, model: keras.Model, named: Mapping[str, str] | None = None, verbose: int = 0
) -> list[str]:
    """Lets the layers learn whose whole name matches, freezes the others.

    Args:
        layers: A regular expression, or a key of `named`.
        model: The model; nested models are entered.
        named: Regular expressions by name.
        verbose: 1 prints the names of the layers that learn.

    Returns:
        The names of the layers with weights that learn.

    Raises:
        ValueError: No layer with weights matches, or the expression is none.
    """
    named = named or {}
    try:
        pattern = re.compile(named.get(layers, layers))
    except re.error as error:
        raise ValueError(f"layers must be one of {list(named)} or a regular expression: {error}") from error
    names = _set_trainable(pattern, model)
    if not names:
        raise ValueError(f"No layer of the model matches layers={layers!r}: nothing would be trained.")
    if verbose:
        print("Training the layers", ", ".join(names))
    return names


def _set_trainable(pattern: re.Pattern[str], model: keras.Model) -> list[str]:
    names = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            layer.trainable = True
            names += _set_trainable(pattern, layer)
        elif layer.weights:
            layer.trainable = pattern.fullmatch(layer.name) is not None
            if layer.trainable:
                names.append(layer.name)
    return names


def resume(trainee: Trainee, stage: dict[str, Any]) -> None:
    """Takes up the training whose checkpoint was loaded, if one was.

    The random generators of the layers go on in any case, the optimizer only in the very stage that the checkpoint
    was written in: a new stage begins with a fresh one, also in a training that is not interrupted.

    Args:
        trainee: Compiled, with the layers of the stage set trainable.
        stage: Description of the stage, as it is written into checkpoints.

    Raises:
        CheckpointError: The checkpoint belongs to another optimizer or to other trainable layers.
    """
    checkpoint, trainee.checkpoint = trainee.checkpoint, None
    state = None if checkpoint is None else read_training_state(checkpoint)
    if state is None or state.epoch != trainee.epoch:
        return
    optimizer = None
    if state.stage == stage:
        optimizer = trainee.keras_model.optimizer
        optimizer.build(trainee.keras_model.trainable_variables)
    restore_training_state(trainee.keras_model, optimizer, state)


def fit(
    trainee: Trainee,
    training: Batches,
    validation: Batches | None,
    *,
    epochs: int,
    stage: dict[str, Any],
    seed: int,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> keras.callbacks.History:
    """Trains a compiled model until `epochs` epochs are done in total.

    Every finished epoch leaves a checkpoint with the optimizer's state, a line in `training.csv` and an entry for
    TensorBoard in the run's folder.

    Args:
        trainee: Compiled, with the layers of the stage set trainable. A checkpoint that it loaded is resumed.
        training: Batches to learn from.
        validation: Batches for the validation losses; None for no such losses.
        epochs: Epochs after which to stop, those before this call included.
        stage: Description of the stage, for the checkpoints: anything that JSON can hold.
        seed: Of the run, for the checkpoints.
        callbacks: Called before the logs are written, so what they add to the logs is logged.

    Raises:
        TrainingDivergedError: The loss became infinite or NaN; the epoch is not written then.
        Exception: What preparing a batch raised, as it was raised.
    """
    resume(trainee, stage)
    for batches in (training, validation):
        if batches is not None:
            batches.epoch, batches.failure = trainee.epoch, None
    log_dir = Path(trainee.log_dir)
    log_dir.mkdir(parents=True, exist_ok=True)
    print(f"Checkpoint path: {trainee.checkpoint_path}")
    every = [
        *callbacks,
        EpochSeed(seed),
        ResumableCSVLogger(log_dir / "training.csv"),
        tensorboard_callback(log_dir),
        DivergenceGuard(trainee),
        EpochCounter(trainee),
        EpochCheckpoint(trainee.checkpoint_path, seed=seed, stage=stage),
    ]
    try:
        return trainee.keras_model.fit(
            training,
            # Keras would ask for the batches in an order of its own, drawn from Python's global generator: a resumed
            # run would see another one, and none of the batches prepared ahead would be the next. They are shuffled
            # already.
            shuffle=False,
            initial_epoch=trainee.epoch,
            epochs=epochs,
            steps_per_epoch=training.steps,
            validation_data=validation,
            validation_steps=None if validation is None else validation.steps,
            callbacks=[callback for callback in every if callback is not None],
        )
    except Exception as error:
        for batches in (training, validation):
            # TensorFlow makes of what its input raises an error of its own, with the traceback in its text.
            if batches is not None and batches.failure not in (None, error):
                raise batches.failure from error
        raise


class TrainingDivergedError(ValueError):
    """The loss is no number any more."""


class DivergenceGuard(keras.callbacks.Callback):
    """Stops a training whose loss became infinite or NaN, before its weights are written.

    Args:
        trainee: Says in the message where the last good weights are.
    """

    def __init__(self, trainee: Trainee):
        super().__init__()
        self._trainee = trainee

    def on_train_batch_end(self, batch, logs=None):
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise TrainingDivergedError(
                f"The loss became {float(loss)} in step {batch + 1} of epoch {self._trainee.epoch + 1}. "
                f"The weights of the last finished epoch are in {self._trainee.log_dir}; try a lower learning rate."
            )


class EpochSeed(keras.callbacks.Callback):
    """Seeds PyTorch at the first step of every epoch, so that a resumed training draws what an uninterrupted one does.

    Under PyTorch, dropout draws from a global generator instead of the layer's own, which checkpoints hold. Keras
    draws from it too, when it begins to iterate over the batches of an epoch: so not before their first is there.

    Args:
        seed: Of the run, 0 or more.
    """

    def __init__(self, seed: int):
        super().__init__()
        self._seed = seed
        self._epoch = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 0 and keras.backend.backend() == "torch":
            import torch

            torch.manual_seed(int(np.random.SeedSequence((self._seed, self._epoch)).generate_state(1)[0]))


class EpochCounter(keras.callbacks.Callback):
    """Keeps `epoch` of what is trained right also when training is interrupted.

    Args:
        trainee: Whose epochs are counted.
    """

    def __init__(self, trainee: Trainee):
        super().__init__()
        self._trainee = trainee

    def on_epoch_end(self, epoch, logs=None):
        self._trainee.epoch = epoch + 1
