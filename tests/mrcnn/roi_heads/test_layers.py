"""The heads' layers against those of Keras, and their saving."""

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn.roi_heads import layers

pytestmark = pytest.mark.backend


def test_roi_convolution_is_a_valid_convolution(run_layer):
    inputs = np.random.default_rng(0).normal(size=(5, 3, 3, 4)).astype(np.float32)
    ours, reference = layers.RoIConv2D(6, 3), keras.layers.Conv2D(6, 3, padding="valid")
    ours.build(inputs.shape)
    reference.build(inputs.shape)
    ours.bias.assign(np.arange(6.0))
    reference.set_weights(ours.get_weights())
    np.testing.assert_allclose(
        run_layer(ours, inputs), ops.convert_to_numpy(reference(ops.convert_to_tensor(inputs))), atol=1e-4
    )


def test_pointwise_convolution_takes_any_leading_dimensions(run_layer):
    inputs = np.random.default_rng(0).normal(size=(2, 5, 3, 3, 4)).astype(np.float32)
    ours, reference = (
        layers.PointwiseConv2D(6, activation="sigmoid"),
        keras.layers.Conv2D(6, 1, activation="sigmoid"),
    )
    ours.build(inputs.shape)
    reference.build(inputs[0].shape)
    ours.bias.assign(np.arange(6.0))
    reference.set_weights(ours.get_weights())
    expected = [ops.convert_to_numpy(reference(ops.convert_to_tensor(image))) for image in inputs]
    np.testing.assert_allclose(run_layer(ours, inputs), expected, atol=1e-5)


def test_rois_fold_and_unfold(run_layer):
    values, rois = np.arange(2 * 3 * 4.0).reshape(2, 3, 4), np.zeros((2, 3, 4))
    folded = run_layer(layers.FoldRois(), values)
    np.testing.assert_array_equal(folded, values.reshape(6, 4))
    np.testing.assert_array_equal(run_layer(layers.UnfoldRois(), folded, rois), values)
    np.testing.assert_array_equal(run_layer(layers.UnfoldRois((2, 2)), folded, rois), values.reshape(2, 3, 2, 2))


@pytest.mark.parametrize(
    "layer",
    [
        layers.RoIConv2D(4, 3, name="conv"),
        layers.PointwiseConv2D(4, name="pointwise", activation="sigmoid"),
        layers.PyramidROIAlign(7, name="align"),
        layers.FoldRois(name="fold"),
        layers.UnfoldRois((3, 4), name="unfold"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_settings_survive_saving(layer, check_settings):
    check_settings(layer)
