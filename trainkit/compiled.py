"""Keras models as one compiled function on every backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import keras


@contextmanager
def precision_scope(policy: str):
    """Builds the layers inside a block with a dtype policy, then restores the previous one.

    Args:
        policy: Name of a Keras dtype policy, such as "float32" or "mixed_bfloat16".
    """
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def compile_inference(model: keras.Model) -> Callable[..., Any]:
    """Returns a function from the model's inputs, in order, to its outputs as backend tensors.

    Every shape of the inputs is compiled once, with all dimensions known; `Model.predict` would fall back to unknown
    dimensions at the second size.

    Args:
        model: Built model; later changes of its weights take effect.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        compiled = tf.function(lambda *inputs: model(_structured(inputs), training=False), autograph=False)
        return lambda *inputs: compiled(*(tf.convert_to_tensor(x) for x in inputs))
    if backend == "jax":
        import jax

        @jax.jit
        def stateless(trainable, other, *inputs):
            return model.stateless_call(trainable, other, _structured(inputs), training=False)[0]

        def run(*inputs):
            trainable = [variable.value for variable in model.trainable_variables]
            other = [variable.value for variable in model.non_trainable_variables]
            return stateless(trainable, other, *inputs)

        return run
    import torch

    def run_without_gradient(*inputs):
        with torch.no_grad():
            return model(_structured([keras.ops.convert_to_tensor(x) for x in inputs]), training=False)

    return run_without_gradient


def _structured(inputs: Sequence[Any]) -> Any:
    """Returns a single input as it is and several as a list, as Keras expects them."""
    return inputs[0] if len(inputs) == 1 else list(inputs)
