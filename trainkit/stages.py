"""Stages of a training: their epochs and learning rates, and the loop over them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import keras

    from trainkit.trainee import Trainee

_log = logging.getLogger(__name__)


class Stage(NamedTuple):
    """One stage of a training.

    Attributes:
        layers: Layers that learn: a named set of the model, or a regular expression over layer names.
        until: Finished epochs of the whole training at the stage's end.
        learning_rate: Learning rate at the stage's start.
        begin: Finished epochs of the whole training at the stage's start.
    """

    layers: str
    until: int
    learning_rate: float
    begin: int = 0

    def decayed_rate(self, epoch: int, share: float, every: int) -> float:
        """Returns the learning rate of an epoch under a step decay that begins anew with every stage.

        Args:
            epoch: Finished epochs of the whole training before this one.
            share: Share of the rate that is lost at each step, 0 to 1.
            every: Epochs between two steps; 0 switches the decay off.

        Examples:
            >>> stage = Stage("all", until=10, learning_rate=0.1, begin=4)
            >>> [stage.decayed_rate(epoch, share=0.5, every=2) for epoch in (4, 5, 6, 8)]
            [0.1, 0.1, 0.05, 0.025]
        """
        return self.learning_rate * (1 - share) ** ((epoch - self.begin) // every) if every else self.learning_rate


def lay_out_stages(stages: Sequence[Sequence[Any]], learning_rate: float, epochs: int | None = None) -> list[Stage]:
    """Places the stages of a configuration on the count of epochs of the whole training.

    Args:
        stages: (layers, epochs) or (layers, epochs, learning rate) of each stage, in order.
        learning_rate: Learning rate of the stages that name none.
        epochs: Total epochs instead of the stages' sum: later stages are dropped, the last one left is cut or
            prolonged.

    Returns:
        The stages in order.

    Raises:
        ValueError: `epochs` is below 1.

    Examples:
        >>> for stage in lay_out_stages([("heads", 2, 0.01), ("all", 3)], learning_rate=0.001, epochs=4):
        ...     print(stage)
        Stage(layers='heads', until=2, learning_rate=0.01, begin=0)
        Stage(layers='all', until=4, learning_rate=0.001, begin=2)
    """
    if epochs is not None and epochs < 1:
        raise ValueError(f"epochs must be at least 1. Received: epochs={epochs}")
    laid, done = [], 0
    for layers, count, *rate in stages:
        laid.append(Stage(layers, done + count, rate[0] if rate else learning_rate, done))
        done += count
    if epochs is None:
        return laid
    kept = [stage for stage in laid if stage.begin < epochs]
    kept[-1] = kept[-1]._replace(until=epochs)
    return kept


def run_stages(
    trainee: Trainee, stages: Sequence[Stage], train_stage: Callable[..., keras.callbacks.History], *given: Any
) -> dict[str, list[float]]:
    """Trains every stage that the trainee has not passed yet; a warning says if none is left.

    The run's folder is held meanwhile, see `Trainee.hold_run`.

    Args:
        trainee: Model in training; its `epoch` counts the epochs that are finished.
        stages: Stages in order.
        train_stage: Function of a stage and `given` that trains it to its end and returns Keras's record of it.
        given: Further arguments of `train_stage`.

    Returns:
        Logs by name, one value for each epoch of this call.

    Raises:
        LockedError: The run is being trained elsewhere.
    """
    logs: dict[str, list[float]] = {}
    if warn_if_finished(trainee, stages[-1].until):
        return logs
    with trainee.hold_run():
        for stage in stages:
            if stage.until <= trainee.epoch:
                continue
            for name, values in train_stage(stage, *given).history.items():
                logs.setdefault(name, []).extend(values)
    return logs


def warn_if_finished(trainee: Trainee, epochs: int) -> bool:
    """Logs a warning if a training has already finished the epochs that are asked for, so that nothing is left.

    Args:
        trainee: Model to train; its `epoch` counts the epochs that are finished.
        epochs: Total epochs asked for.

    Returns:
        True if nothing is left to train.
    """
    if trainee.epoch < epochs:
        return False
    _log.warning(
        "%s: nothing is left to train: %d epochs are finished, and training is to end after epoch %d. Ask for more "
        "epochs in total, or begin a new training",
        trainee.log_dir,
        trainee.epoch,
        epochs,
    )
    return True
