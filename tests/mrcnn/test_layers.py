"""Shared layers against Keras and NumPy, and their saving."""

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn import layers

pytestmark = pytest.mark.backend


def filled_norm(layer, inputs):
    """Builds a batch norm with statistics and scale that are not the identity."""
    layer.build(inputs.shape)
    rng = np.random.default_rng(1)
    for weight in layer.weights:
        weight.assign(rng.uniform(0.5, 2.0, weight.shape))
    return layer


@pytest.mark.parametrize("train_bn", [False, None, True])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("trainable", [False, True])
def test_batch_norm_modes(train_bn, training, trainable, run_layer):
    inputs = np.random.default_rng(0).normal(3, 2, (4, 3, 3, 2)).astype(np.float32)
    layer = filled_norm(layers.BatchNorm(train_bn), inputs)
    layer.trainable = trainable
    reference = filled_norm(keras.layers.BatchNormalization(), inputs)
    reference.trainable = trainable
    uses_batch = trainable and (training if train_bn is None else train_bn)
    expected = ops.convert_to_numpy(reference(ops.convert_to_tensor(inputs), training=uses_batch))
    np.testing.assert_allclose(run_layer(layer, inputs, training=training), expected, atol=1e-5)
    for ours, theirs in zip(layer.weights, reference.weights, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(ours), ops.convert_to_numpy(theirs), rtol=1e-5)


def test_normalized_boxes_keep_padding(run_layer):
    boxes = run_layer(
        layers.NormalizedBoxes(), np.array([[[0, 0, 33, 65], [16, 32, 17, 33], [0, 0, 0, 0]]]), np.zeros((1, 33, 65, 3))
    )
    np.testing.assert_allclose(boxes, [[[0, 0, 1, 1], [0.5, 0.5, 0.5, 0.5], [0, 0, 0, 0]]], atol=1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        layers.BatchNorm(None, name="bn", epsilon=0.01),
        layers.NormalizedBoxes(name="normalized"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_settings_survive_saving(layer, check_settings):
    check_settings(layer)
