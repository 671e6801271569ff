"""Folded batch norm gives the same answers for every kind of convolution, and follows the weights."""

import keras
import numpy as np
import pytest
from keras import layers

from trainkit.folding import FoldedConvolution, fold_batch_norm

pytestmark = pytest.mark.backend


@pytest.fixture(scope="module")
def model():
    """One convolution of each kind, with batch norm: behind an activation and a centred one it is not folded."""
    image = keras.Input((8, 12, 3), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="plain")(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization(name="plain_bn")(x))
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, padding="same", use_bias=False, name="depthwise")(x)
    x = layers.BatchNormalization(name="depthwise_bn")(x)
    x = layers.Conv2DTranspose(5, 2, strides=2, padding="same", name="transposed")(x)
    x = layers.BatchNormalization(name="transposed_bn")(x)
    x = layers.BatchNormalization(name="second_bn")(x)
    x = layers.Conv2D(2, 1, name="uncentred")(x)
    built = keras.Model(image, layers.BatchNormalization(center=False, name="uncentred_bn")(x))
    rng = np.random.default_rng(0)
    for weight in built.weights:
        weight.assign(rng.uniform(0.3, 1.5, weight.shape) * rng.choice([-1, 1] if "kernel" in weight.path else [1]))
    return built


@pytest.fixture(scope="module")
def folded(model):
    return fold_batch_norm(model)


def answer(network):
    image = np.random.default_rng(1).normal(size=(2, 8, 12, 3)).astype(np.float32)
    return keras.ops.convert_to_numpy(network(image, training=False))


def test_every_kind_of_convolution_answers_as_before(model, folded):
    names = [layer.conv.name for layer in folded.layers if isinstance(layer, FoldedConvolution)]
    assert names == ["plain", "depthwise", "transposed"]
    np.testing.assert_allclose(answer(folded), answer(model), rtol=1e-4, atol=1e-4)


def test_the_model_keeps_its_layers_and_shares_its_weights(model, folded):
    assert not any(isinstance(layer, FoldedConvolution) for layer in model.layers)
    assert {id(weight) for weight in folded.weights} == {id(weight) for weight in model.weights}
    before = answer(folded)
    model.get_layer("transposed_bn").moving_mean.assign(np.full(5, 9.0))
    np.testing.assert_allclose(answer(folded), answer(model), rtol=1e-4, atol=1e-4)
    assert np.abs(answer(folded) - before).max() > 0.1
