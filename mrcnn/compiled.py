"""Graphs of Mask R-CNN as one compiled function: as they are, or with their batch norm folded for speed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from mrcnn.folding import fold_batch_norm
from trainkit import compiled


def compile_inference(model: keras.Model, fold: bool = False) -> Callable[..., Any]:
    """Returns a function from a graph's inputs, in order, to its outputs as backend tensors.

    What is compiled for which sizes of images says `trainkit.compiled.compile_inference`.

    Args:
        model: Built functional model; later changes of its weights take effect.
        fold: True to fold batch norm into the convolutions before it, see `mrcnn.folding`: faster, and the same up to
            rounding. The tensors between them are then no longer those of the model.
    """
    return compiled.compile_inference(fold_batch_norm(model, training=False) if fold else model)
