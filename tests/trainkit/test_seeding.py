"""Layers begin with the weights of their seed on every backend, and JAX does without TensorFlow."""

import random

import keras
import numpy as np

from trainkit.seeding import seed_weights


def begin():
    seed_weights(5)
    return [keras.ops.convert_to_numpy(layer.kernel) for layer in dense()]


def dense():
    layers = [keras.layers.Dense(3), keras.layers.Dense(3)]
    for layer in layers:
        layer.build((None, 4))
    return layers


def test_one_seed_gives_one_network():
    first, again = begin(), begin()
    np.testing.assert_array_equal(first, again)
    assert (first[0] != first[1]).any()


def test_jax_is_seeded_without_the_function_that_imports_tensorflow(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    monkeypatch.setattr(keras.utils, "set_random_seed", None)
    drawn = []
    for _ in range(2):
        seed_weights(5)
        drawn.append((random.random(), np.random.random()))
    assert drawn[0] == drawn[1]
