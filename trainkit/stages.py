"""The stages of a training on its count of epochs, and the learning rate in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class Stage(NamedTuple):
    """One stage of a training.

    Attributes:
        layers: Which layers learn: a name that the model knows, or a regular expression.
        until: Epochs of the whole training at the stage's end.
        learning_rate: Of this stage.
        begin: Epochs of the whole training at the stage's start.
    """

    layers: str
    until: int
    learning_rate: float
    begin: int = 0

    def decayed_rate(self, epoch: int, share: float, every: int) -> float:
        """Returns the learning rate of an epoch under a step decay that begins anew with every stage.

        Args:
            epoch: Epochs of the whole training before this one.
            share: What the rate loses at a step, 0 to 1.
            every: Epochs between two steps; 0 for none.
        """
        return self.learning_rate * (1 - share) ** ((epoch - self.begin) // every) if every else self.learning_rate


def lay_out_stages(stages: Sequence[Sequence[Any]], learning_rate: float, epochs: int | None = None) -> list[Stage]:
    """Lays stages out on the count of epochs.

    Args:
        stages: (layers, epochs) or (layers, epochs, learning rate) of each.
        learning_rate: Of stages without one.
        epochs: Ends the training at this epoch instead: stages behind it fall away, and the last one is
            prolonged where they end earlier.

    Returns:
        The stages in order.
    """
    laid, done = [], 0
    for layers, count, *rate in stages:
        laid.append(Stage(layers, done + count, rate[0] if rate else learning_rate, done))
        done += count
    if epochs is None:
        return laid
    kept = [stage for stage in laid if stage.begin < epochs]
    kept[-1] = kept[-1]._replace(until=epochs)
    return kept
