"""Compiled networks: the number of graphs stays bounded whatever the number of sizes, and answers stay the same."""

import keras
import numpy as np
import pytest

from trainkit import compiled

pytestmark = pytest.mark.backend


@pytest.fixture
def model():
    """A network of two inputs that counts how often it is traced."""

    class Counted(keras.layers.Layer):
        calls = 0

        def call(self, inputs):
            Counted.calls += 1
            return inputs * 2

    images, factors = keras.Input((None, None, 1)), keras.Input((1,))
    x = keras.layers.Conv2D(2, 3, padding="same")(Counted()(images))
    model = keras.Model([images, factors], keras.layers.GlobalAveragePooling2D()(x) * factors)
    Counted.calls = 0
    return model, Counted


def inputs_of(height):
    pixels = np.random.default_rng(height).uniform(size=(2, height, 7, 1)).astype(np.float32)
    return pixels, np.array([[1.0], [3.0]], np.float32)


def test_many_sizes_share_few_graphs_and_answer_equally(model):
    network, counted = model
    run = compiled.compile_inference(network)
    heights = range(4, 10)
    for _ in range(2):
        for height in heights:
            expected = keras.ops.convert_to_numpy(network(list(inputs_of(height))))
            before = counted.calls
            found = keras.ops.convert_to_numpy(run(*inputs_of(height)))
            np.testing.assert_allclose(found, expected, rtol=1e-5)
            if keras.backend.backend() == "tensorflow" and height not in heights[:2]:
                assert counted.calls == before, "all sizes but the first share a graph"


def test_a_size_is_compiled_once(model):
    network, counted = model
    run = compiled.compile_inference(network)
    run(*inputs_of(5))
    before = counted.calls
    run(*inputs_of(6))
    run(*inputs_of(5))
    assert counted.calls - before == (2 if keras.backend.backend() == "torch" else 1)


def test_jax_gives_up_the_graph_that_was_not_used_for_longest(model, monkeypatch):
    if keras.backend.backend() != "jax":
        pytest.skip("JAX keeps a graph for every size")
    monkeypatch.setattr(compiled, "KEPT_GRAPHS", 2)
    network, counted = model
    run = compiled.compile_inference(network)
    for height in (5, 6, 5, 7):
        run(*inputs_of(height))
    before = counted.calls
    run(*inputs_of(5))
    assert counted.calls == before
    run(*inputs_of(6))
    assert counted.calls > before


def test_later_changes_of_weights_take_effect(model):
    network, _ = model
    run = compiled.compile_inference(network)
    before = keras.ops.convert_to_numpy(run(*inputs_of(5)))
    ((kernel, bias),) = (layer.weights for layer in network.layers if layer.weights)
    kernel.assign(np.zeros(kernel.shape))
    bias.assign(np.ones(bias.shape))
    after = keras.ops.convert_to_numpy(run(*inputs_of(5)))
    assert (before != after).any()
    np.testing.assert_allclose(after, [[1, 1], [3, 3]], rtol=1e-6)
