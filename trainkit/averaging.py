"""Temporary use of an optimizer's moving average of the weights in place of the weights.

Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992, with an exponential average as in
Adam's paper (Kingma and Ba 2015, section 7.2). The average is scored, kept as the best and written into weights files;
training continues from the weights themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import numpy as np


def compiled_optimizer(model: keras.Model) -> keras.Optimizer | None:
    """Returns the optimizer that a model is compiled with; None if it is not compiled."""
    return model.optimizer if model.compiled else None


@contextmanager
def averaged_weights(model: keras.Model) -> Iterator[list[np.ndarray]]:
    """Replaces a model's trainable weights by their averages inside a block, and restores them at the end.

    Args:
        model: The model, up to date (see `trainkit.checkpoint.synchronise`).

    Yields:
        The weights themselves, in the order of `model.trainable_variables`; empty, and the model untouched, where the
        optimizer keeps no averages or has not made a step yet.
    """
    optimizer = compiled_optimizer(model)
    if optimizer is None or not optimizer.use_ema or not int(keras.ops.convert_to_numpy(optimizer.iterations)):
        yield []
        return
    variables = model.trainable_variables
    own = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
    optimizer.finalize_variable_values(variables)
    try:
        yield own
    finally:
        for variable, array in zip(variables, own, strict=True):
            variable.assign(array)
