"""The RPN at single anchors is the RPN of the whole map, read there."""

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn.config import Config
from mrcnn.rpn.head import build_rpn_model, run_rpn
from mrcnn.rpn.sampling import AnchorNeighbourhoods, SampledAnchors, build_sampled_rpn

pytestmark = pytest.mark.backend

DEPTH = 6
SIDES = ((8, 12), (4, 6), (2, 3), (1, 2))


class SamplingConfig(Config):
    RPN_TRAIN_ANCHORS_PER_IMAGE = 24
    RPN_ANCHOR_RATIOS = [0.5, 1, 2]
    TOP_DOWN_PYRAMID_SIZE = DEPTH


def random_pyramid(rng):
    return [rng.standard_normal((2, height, width, DEPTH)).astype(np.float32) for height, width in SIDES]


def random_match(rng, anchors, labelled):
    """Labels of two images, always among them the first and the last anchor: corners of the maps."""
    match = np.zeros((2, anchors, 1), np.int32)
    for image in match:
        chosen = np.append(rng.choice(np.arange(1, anchors - 1), labelled - 2, replace=False), [0, anchors - 1])
        image[chosen, 0] = rng.choice([-1, 1], labelled)
    return match


@pytest.fixture(params=[1, 2], ids=["every cell", "every other cell"])
def network(request):
    """A function from (pyramid, match) to the RPN's outputs everywhere and at the labelled anchors."""
    config = SamplingConfig()
    config.RPN_ANCHOR_STRIDE = request.param
    keras.utils.set_random_seed(1)
    rpn = build_rpn_model(request.param, 3, DEPTH, 8)
    for weight in rpn.weights:
        weight.assign(np.random.default_rng(3).normal(0, 0.3, weight.shape))
    pyramid = [keras.Input((*side, DEPTH), batch_size=2) for side in SIDES]
    everywhere = run_rpn(rpn, pyramid)
    match = keras.Input((everywhere[0].shape[1], 1), batch_size=2, dtype="int32")
    sampled = build_sampled_rpn(rpn, match, pyramid, config)
    return keras.Model([*pyramid, match], [everywhere[0], everywhere[2], *sampled])


def test_answers_are_those_of_the_whole_map(network):
    rng = np.random.default_rng(5)
    pyramid, match = random_pyramid(rng), random_match(rng, network.inputs[-1].shape[1], 20)
    logits, deltas, labels, sampled_logits, sampled_deltas = map(
        ops.convert_to_numpy, network([ops.convert_to_tensor(array) for array in (*pyramid, match)])
    )
    assert labels.shape == (2, 24, 1)
    for image in range(2):
        labelled = np.flatnonzero(match[image])
        np.testing.assert_array_equal(labels[image, :20, 0], match[image, labelled, 0])
        assert not labels[image, 20:].any()
        np.testing.assert_allclose(sampled_logits[image, :20], logits[image, labelled], atol=1e-5)
        np.testing.assert_allclose(sampled_deltas[image, :20], deltas[image, labelled], atol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes gradients with TensorFlow")
def test_gradients_are_those_of_the_whole_map(network):
    import tensorflow as tf

    rng = np.random.default_rng(6)
    match = random_match(rng, network.inputs[-1].shape[1], 20)
    inputs = [tf.constant(array) for array in random_pyramid(rng)]
    variables = network.trainable_variables
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(inputs)
        logits, deltas, labels, sampled_logits, sampled_deltas = network([*inputs, tf.constant(match)])
        # Any function of the labelled anchors that weighs them differently.
        used = tf.cast(match, tf.float32)
        dense = tf.reduce_sum(used * tf.sin(logits)) + tf.reduce_sum(used * tf.cos(deltas))
        used = tf.cast(labels, tf.float32)
        sampled = tf.reduce_sum(used * tf.sin(sampled_logits)) + tf.reduce_sum(used * tf.cos(sampled_deltas))
    assert len(variables) == 6
    for ours, expected in zip(
        tape.gradient(sampled, [*inputs, *variables]), tape.gradient(dense, [*inputs, *variables]), strict=True
    ):
        assert np.abs(expected).max() > 0
        np.testing.assert_allclose(tf.convert_to_tensor(ours), expected, atol=2e-5)


def test_an_image_without_labels_gives_neutral_anchors():
    indices, labels = SampledAnchors(5)(ops.zeros((1, 9, 1), dtype="int32"))
    assert indices.shape == (1, 5)
    assert not ops.convert_to_numpy(labels).any()


@pytest.mark.parametrize("layer", [SampledAnchors(7), AnchorNeighbourhoods(2, 3)])
def test_layers_are_rebuilt_from_their_configuration(layer):
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()
