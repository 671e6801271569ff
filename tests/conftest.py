"""Fixtures that make tests of networks quick, on every backend."""

from collections.abc import Callable, Iterator

import keras
import numpy as np
import pytest


@pytest.fixture(scope="session", autouse=True)
def quick_initial_weights() -> Iterator[None]:
    """Draws initial kernels with NumPy on JAX, which otherwise compiles that for every shape, for minutes in all."""
    if keras.backend.backend() != "jax":
        yield
        return

    def draw(self, shape, dtype=None):
        fans = np.prod(shape[:-2]) * (shape[-2] + shape[-1])
        return np.random.uniform(-1, 1, shape).astype(np.float32) * np.sqrt(6 / fans)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras.initializers.VarianceScaling, "__call__", draw)
        yield


@pytest.fixture(scope="session")
def compiled() -> Callable[[Callable], Callable]:
    """Returns a function that compiles another on JAX, where running it step by step takes far longer."""
    if keras.backend.backend() != "jax":
        return lambda function: function
    import jax

    return jax.jit


@pytest.fixture
def eager() -> Iterator[None]:
    """Runs TensorFlow step by step: compiling a graph takes longer than the few steps of a tiny network."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
