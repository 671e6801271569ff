"""Batch normalisation: results, gradients and statistics as Keras computes them, in training and after it."""

import keras
import numpy as np
import pytest
from keras import ops

from trainkit.batch_norm import BatchNorm


def trained(layer_class, images, targets, **options):
    """Returns the losses of a few training steps, the weights behind them and predictions."""
    layer = layer_class(name="norm", **options)
    model = keras.Sequential([keras.Input(images.shape[1:]), layer])
    rng = np.random.default_rng(1)
    gamma, beta, mean, variance = (weight.shape for weight in layer.weights)
    layer.set_weights([rng.uniform(0.5, 2, gamma), rng.normal(0, 1, beta), np.ones(mean), rng.uniform(1, 2, variance)])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    losses = [float(model.train_on_batch(images, targets)) for _ in range(3)]
    return losses, layer.get_weights(), model.predict_on_batch(images)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("mixed_bfloat16", 2e-2), ("mixed_float16", 2e-3)])
def test_trains_as_keras_does(dtype, tolerance):
    rng = np.random.default_rng(0)
    images = rng.normal(3, 2, (2, 4, 5, 3)).astype(np.float32)
    targets = rng.normal(0, 1, images.shape).astype(np.float32)
    ours, theirs = (
        trained(layer, images, targets, dtype=dtype, momentum=0.8, epsilon=0.01)
        for layer in (BatchNorm, keras.layers.BatchNormalization)
    )
    np.testing.assert_allclose(ours[0], theirs[0], rtol=tolerance)
    for mine, expected in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(mine, expected, atol=tolerance)
    np.testing.assert_allclose(ours[2], theirs[2], atol=10 * tolerance)


def test_a_frozen_layer_uses_and_keeps_its_statistics():
    layer = BatchNorm(epsilon=0.0)
    layer.build((None, None, None, 2))
    layer.set_weights(np.float32([[1, 1], [0, 0], [3, 0], [4, 1]]))
    layer.trainable = False
    images = np.random.default_rng(0).normal(0, 1, (2, 3, 3, 2)).astype(np.float32)
    outputs = ops.convert_to_numpy(layer(images, training=True))
    np.testing.assert_allclose(outputs, (images - [3, 0]) / [2, 1], atol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean, [3, 0])
