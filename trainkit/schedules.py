"""Learning rates that change from step to step."""

from __future__ import annotations

import math

import keras


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """Returns the share of the learning rate at a step: a straight rise, then half a cosine down to 0.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts", 2017, eq. 5, for a single run.

    Args:
        step: Steps behind, from 0 on.
        total: Steps in all.
        warmup: Steps of the rise, fewer than `total`.

    Returns:
        Above 0 and at most 1.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * min((step - warmup) / (total - warmup), 1.0)))


class WarmupCosine(keras.callbacks.Callback):
    """Sets the learning rate before every step of a stage; a resumed training goes on where it was.

    A training that goes on with another `total` bends the rest of its curve towards the new end.

    Args:
        learning_rate: The highest.
        total: Steps of the stage.
        warmup: Steps of the rise, fewer than `total`.
        steps_per_epoch: Steps of an epoch.
        begin: Epochs before the stage.

    Raises:
        ValueError: The stage is no longer than its rise.
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
