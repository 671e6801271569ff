"""Folding a batch norm changes how the network computes, not what: outputs, gradients, and who owns the weights."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from mrcnn.folding import fold_batch_norm
from mrcnn.layers import BatchNorm
from trainkit import folding
from trainkit.folding import FoldedConvolution

pytestmark = pytest.mark.backend


def build(train_bn=False, dtype="float32", **conv_options):
    """Two convolutions with batch norm, the second on a strided map, and one without."""
    image = keras.Input((8, 10, 3), name="image")
    x = layers.Conv2D(5, 3, padding="same", name="conv_a", dtype=dtype, **conv_options)(image)
    x = BatchNorm(train_bn, name="norm_a", dtype=dtype)(x)
    x = layers.Activation("relu", dtype=dtype)(x)
    y = layers.Conv2D(4, 1, strides=2, name="conv_b", dtype=dtype)(x)
    y = BatchNorm(train_bn, name="norm_b", dtype=dtype)(y)
    model = keras.Model(image, [y, layers.Conv2D(2, 3, name="head", dtype=dtype)(x)])
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(0.3, 1.5, weight.shape) * rng.choice([-1, 1] if "kernel" in weight.path else [1]))
    return model


def images():
    return ops.convert_to_tensor(np.random.default_rng(1).normal(size=(2, 8, 10, 3)).astype(np.float32))


def folded_layers(model):
    return [layer.conv.name for layer in model.layers if isinstance(layer, FoldedConvolution)]


@pytest.mark.parametrize("options", [{}, {"use_bias": False}], ids=["bias", "no bias"])
def test_outputs_and_weights_stay(options):
    model = build(**options)
    folded = fold_batch_norm(model, training=True)
    assert folded_layers(folded) == ["conv_a", "conv_b"]
    assert {id(weight) for weight in folded.weights} == {id(weight) for weight in model.weights}
    for ours, expected in zip(folded(images(), training=True), model(images(), training=True), strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(ours), ops.convert_to_numpy(expected), rtol=1e-4, atol=1e-4)


def test_later_changes_of_weights_are_seen():
    model = build()
    folded = fold_batch_norm(model, training=False)
    before = ops.convert_to_numpy(folded(images())[0])
    model.get_layer("norm_b").moving_mean.assign(np.full(4, 9.0))
    after = ops.convert_to_numpy(folded(images())[0])
    np.testing.assert_allclose(after, ops.convert_to_numpy(model(images())[0]), rtol=1e-4, atol=1e-4)
    assert np.abs(after - before).min() > 0.1


@pytest.mark.parametrize(
    ("train_bn", "training", "folds"),
    [(False, True, True), (False, False, True), (None, True, False), (None, False, True), (True, False, False)],
)
def test_only_stored_statistics_are_folded(train_bn, training, folds):
    assert bool(folded_layers(fold_batch_norm(build(train_bn), training))) == folds


def test_large_kernels_and_active_convolutions_are_left(monkeypatch):
    assert folded_layers(fold_batch_norm(build(activation="tanh"), training=False)) == ["conv_b"]
    monkeypatch.setattr(folding, "LARGEST_KERNEL", 5 * 4)
    assert folded_layers(fold_batch_norm(build(), training=False)) == ["conv_b"]


def test_mixed_precision_scales_in_float32():
    exact, mixed = build(), build(dtype="mixed_bfloat16")
    outputs = fold_batch_norm(mixed, training=False)(images())[0]
    assert keras.backend.standardize_dtype(outputs.dtype) == "bfloat16"
    expected = ops.convert_to_numpy(exact(images())[0])
    np.testing.assert_allclose(ops.convert_to_numpy(ops.cast(outputs, "float32")), expected, rtol=0.05, atol=0.2)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes gradients with TensorFlow")
def test_gradients_stay():
    import tensorflow as tf

    model = build()
    folded = fold_batch_norm(model, training=True)

    def gradients(network):
        with tf.GradientTape() as tape:
            loss = sum(tf.reduce_sum(tf.sin(output)) for output in network(images(), training=True))
        return tape.gradient(loss, model.trainable_variables)

    for variable, ours, expected in zip(model.trainable_variables, gradients(folded), gradients(model), strict=True):
        assert np.abs(expected).max() > 0, variable.path
        np.testing.assert_allclose(ours, expected, rtol=2e-3, atol=2e-3)
