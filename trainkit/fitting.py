"""Training of one stage: layers that learn, resuming, divergence guard, logs, a checkpoint for every epoch."""

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
from trainkit.checkpoint import CheckpointError, read_training_state, restore_training_state
from trainkit.reading import reading
from trainkit.stages import warn_if_finished
from trainkit.trainee import Trainee


def set_trainable(
    layers: str, model: keras.Model, named: Mapping[str, str] | None = None, verbose: int = 0
) -> list[str]:
    """Makes layers trainable whose whole name matches, freezes the others.

    Args:
        layers: Regular expression over layer names, or a key of `named`.
        model: Model to change; nested models are entered.
        named: Regular expressions by name.
        verbose: 1 prints the names of the trainable layers.

    Returns:
        Names of the trainable layers with weights.

    Raises:
        ValueError: No layer with weights matches, or the expression is invalid.
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
    """Resumes the training whose checkpoint was loaded, if one was.

    The random generators of the layers are restored in any case, the optimizer only in the stage that the checkpoint
    was written in: a new stage begins with a fresh one, also in a training that is not interrupted.

    Args:
        trainee: Compiled model, with the layers of the stage set trainable.
        stage: Description of the stage, as it is written into checkpoints.

    Raises:
        WeightsFileError: The checkpoint cannot be read.
        CheckpointError: The checkpoint belongs to another optimizer or to other trainable layers; the message names it.
    """
    checkpoint, trainee.checkpoint = trainee.checkpoint, None
    state = None if checkpoint is None else read_training_state(checkpoint)
    if state is None or state.epoch != trainee.epoch:
        return
    optimizer = None
    if state.stage == stage:
        optimizer = trainee.keras_model.optimizer
        optimizer.build(trainee.keras_model.trainable_variables)
    with reading(checkpoint, error=CheckpointError):
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
    """Trains a compiled model until `epochs` epochs are finished in total; a warning says if they are already.

    Every finished epoch leaves a checkpoint with the optimizer's state, a line in `training.csv` and an entry for
    TensorBoard in the run's folder, which is held meanwhile, see `Trainee.hold_run`.

    Args:
        trainee: Compiled model, with the layers of the stage set trainable. A checkpoint that it loaded is resumed.
        training: Batches to learn from.
        validation: Batches for the validation losses; None for no such losses.
        epochs: Total epochs after which to stop, including those before this call.
        stage: Description of the stage for the checkpoints; anything that JSON can hold.
        seed: Seed of the run for the checkpoints, 0 or more.
        callbacks: Keras callbacks, called at the end of an epoch after its checkpoint is written, so that they can
            read it, and before the logs are, so that they can add to them.

    Returns:
        Keras's record of the epochs.

    Raises:
        LockedError: The run is being trained elsewhere.
        TrainingDivergedError: The loss became infinite or NaN; the epoch is not written.
        Exception: An error in preparing a batch, as it was raised.
    """
    with trainee.hold_run():
        warn_if_finished(trainee, epochs)
        resume(trainee, stage)
        for batches in (training, validation):
            if batches is not None:
                batches.epoch, batches.failure = trainee.epoch, None
        print(f"Checkpoint path: {trainee.checkpoint_path}")
        try:
            return trainee.keras_model.fit(
                training,
                # Keras would request the batches in an order of its own, drawn from Python's global generator: a
                # resumed run would see another order, and none of the batches prepared ahead would be the next. They
                # are shuffled already.
                shuffle=False,
                initial_epoch=trainee.epoch,
                epochs=epochs,
                steps_per_epoch=training.steps,
                validation_data=validation,
                validation_steps=None if validation is None else validation.steps,
                callbacks=_all_callbacks(trainee, stage, seed, callbacks),
            )
        except Exception as error:
            for batches in (training, validation):
                # TensorFlow replaces an error of its input by one of its own, with the traceback in its text.
                if batches is not None and batches.failure not in (None, error):
                    raise batches.failure from error
            raise


def _all_callbacks(
    trainee: Trainee, stage: dict[str, Any], seed: int, callbacks: Sequence[keras.callbacks.Callback]
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of every training and the given ones, in the order of their calls."""
    log_dir = Path(trainee.log_dir)
    log = ResumableCSVLogger(log_dir / "training.csv")
    tensorboard = tensorboard_callback(log_dir)
    return [
        EpochSeed(seed),
        DivergenceGuard(trainee),
        EpochCounter(trainee),
        # Twice: a run that is killed in a callback has its epoch in the log, and what callbacks add joins it.
        log,
        EpochCheckpoint(trainee.checkpoint_path, seed=seed, stage=stage),
        *callbacks,
        log,
        *([] if tensorboard is None else [tensorboard]),
    ]


class TrainingDivergedError(ValueError):
    """Training whose loss became infinite or NaN."""


class DivergenceGuard(keras.callbacks.Callback):
    """Stops a training whose loss became infinite or NaN, before its weights are written.

    Args:
        trainee: Model in training, whose folder the message names.
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
    draws from it too when it begins to iterate over the batches of an epoch, so it is seeded at the first batch.

    Args:
        seed: Seed of the run, 0 or more.
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
    """Counts the finished epochs of a model, also of a training that is interrupted.

    Args:
        trainee: Model in training, whose `epoch` is updated.
    """

    def __init__(self, trainee: Trainee):
        super().__init__()
        self._trainee = trainee

    def on_epoch_end(self, epoch, logs=None):
        self._trainee.epoch = epoch + 1
