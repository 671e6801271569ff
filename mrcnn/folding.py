"""Batch norm of Mask R-CNN, folded into the convolution before it; see `trainkit.folding`."""

from __future__ import annotations

import keras

from mrcnn.layers import BatchNorm
from trainkit import folding


def fold_batch_norm(model: keras.Model, training: bool) -> keras.Model:
    """Returns a model with the same weights and results, with batch norm folded where that is faster.

    Args:
        model: Functional model.
        training: True if the returned model will be called with `training=True`.
    """

    def uses_stored(norm: keras.layers.BatchNormalization) -> bool:
        return isinstance(norm, BatchNorm) and not norm.uses_batch(training)

    return folding.fold_batch_norm(model, uses_stored)
