"""Learning rates that change from step to step."""

from __future__ import annotations

import math

import keras

from trainkit.stages import Stage


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """Returns the factor of the learning rate at a step: a linear warm-up, then half a cosine down to 0.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, eq. 5, for a single run.

    Args:
        step: Number of completed steps.
        total: Total number of steps.
        warmup: Steps of the warm-up, fewer than `total`.

    Returns:
        Factor above 0 and at most 1.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / (total - warmup), 1.0)))


def stage_cosine(stage: Stage, warmup: int, steps_per_epoch: int) -> WarmupCosine:
    """Makes the schedule of a stage: a warm-up to its learning rate, then half a cosine to its end.

    Args:
        stage: The stage.
        warmup: Steps of the warm-up; fewer where the stage is no longer than that.
        steps_per_epoch: Steps per epoch.
    """
    total = (stage.until - stage.begin) * steps_per_epoch
    return WarmupCosine(stage.learning_rate, total, min(warmup, total - 1), steps_per_epoch, stage.begin)


class WarmupCosine(keras.callbacks.Callback):
    """Sets the learning rate before every step of a stage; a resumed training continues the schedule.

    A training resumed with another `total` bends the rest of its curve towards the new end.

    Args:
        learning_rate: Peak learning rate.
        total: Steps of the stage.
        warmup: Steps of the warm-up, fewer than `total`.
        steps_per_epoch: Steps per epoch.
        begin: Epochs before the stage.

    Raises:
        ValueError: The stage is no longer than its warm-up.
    """

    def __init__(self, learning_rate: float, total: int, warmup: int, steps_per_epoch: int, begin: int = 0):
        super().__init__()
        if not 0 <= warmup < total:
            raise ValueError(f"The rise must be shorter than the stage. Received: {warmup} steps of {total}")
        self._learning_rate = learning_rate
        self._total = total
        self._warmup = warmup
        self._steps_per_epoch = steps_per_epoch
        self._begin = begin
        self._done = 0

    def on_epoch_begin(self, epoch, logs=None):
        self._done = (epoch - self._begin) * self._steps_per_epoch

    def on_train_batch_begin(self, batch, logs=None):
        share = warmup_cosine(self._done + batch, self._total, self._warmup)
        self.model.optimizer.learning_rate = self._learning_rate * share

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["learning_rate"] = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
