"""Keras models as one compiled function on every backend."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any

import keras

from trainkit.shapes import FEW, FEWEST, MANY, Shapes

# Graphs of a network that JAX keeps, each for one shape of the inputs.
KEPT_GRAPHS = 32


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


def inference_shapes() -> Shapes:
    """Returns the rule for the shapes of inputs of `compile_inference`: few different ones on JAX.

    On a processor, batches save no time that would make up for compiling them.
    """
    if keras.backend.backend() != "jax":
        return MANY
    import jax

    return FEWEST if jax.default_backend() == "cpu" else FEW


def compile_inference(model: keras.Model) -> Callable[..., Any]:
    """Returns a function from the model's inputs, in order, to its outputs as backend tensors.

    With TensorFlow, the first shape of the inputs has a graph with all dimensions known, and all further shapes share
    one that knows only the dimensions which the model fixes: answers are the same, and a new size of images costs
    neither time nor memory. JAX compiles every shape, so that inputs should follow `inference_shapes`; beyond
    `KEPT_GRAPHS`, the graph that was not used for longest is given up for a new one. PyTorch compiles nothing.

    Args:
        model: Built model; later changes of its weights take effect.
    """
    compilers = {"tensorflow": _compile_tensorflow, "jax": _compile_jax, "torch": _without_gradient}
    return compilers[keras.backend.backend()](model)


def _compile_tensorflow(model: keras.Model) -> Callable[..., Any]:
    import tensorflow as tf

    def call(*inputs):
        return model(_structured(inputs), training=False)

    known = tf.function(call, autograph=False)
    any_shape = tf.function(
        call,
        autograph=False,
        input_signature=[tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs],
    )
    first = None

    def run(*inputs):
        nonlocal first
        tensors = [tf.convert_to_tensor(x, tensor.dtype) for x, tensor in zip(inputs, model.inputs, strict=True)]
        shapes = [tensor.shape for tensor in tensors]
        first = shapes if first is None else first
        return (known if shapes == first else any_shape)(*tensors)

    return run


def _compile_jax(model: keras.Model) -> Callable[..., Any]:
    import jax
    import numpy as np

    graphs: OrderedDict[tuple, Any] = OrderedDict()

    def compile_one():
        @jax.jit
        def stateless(trainable, other, *inputs):
            return model.stateless_call(trainable, other, _structured(inputs), training=False)[0]

        return stateless

    def run(*inputs):
        shape = tuple(np.shape(x) for x in inputs)
        if shape not in graphs:
            if len(graphs) == KEPT_GRAPHS:
                graphs.popitem(last=False)[1].clear_cache()
            graphs[shape] = compile_one()
        graphs.move_to_end(shape)
        trainable = [variable.value for variable in model.trainable_variables]
        other = [variable.value for variable in model.non_trainable_variables]
        return graphs[shape](trainable, other, *inputs)

    return run


def _without_gradient(model: keras.Model) -> Callable[..., Any]:
    import torch

    def run(*inputs):
        with torch.no_grad():
            return model(_structured([keras.ops.convert_to_tensor(x) for x in inputs]), training=False)

    return run


def _structured(inputs: Sequence[Any]) -> Any:
    """Returns a single input as it is and several as a list, as Keras expects them."""
    return inputs[0] if len(inputs) == 1 else list(inputs)
