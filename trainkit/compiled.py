"""Runs a Keras model as one compiled function, whatever the backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import keras


@contextmanager
def precision_scope(policy: str):
    """Builds the layers inside with a dtype policy ("float32", "mixed_bfloat16"), then restores the previous one."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


def compile_inference(model: keras.Model) -> Callable[..., Any]:
    """Returns a function from the model's inputs, in order, to its outputs as backend tensors.

    Every shape of the inputs is compiled once, with all dimensions known; `Model.predict` would fall back to unknown
    ones at the second size.

    Args:
        model: A built model; later changes of its weights are seen.
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
    """Returns a model's inputs as Keras wants them: a single one as it is, several as a list."""
    return inputs[0] if len(inputs) == 1 else list(inputs)
