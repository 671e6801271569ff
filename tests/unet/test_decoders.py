"""Decoders: they need no more of an encoder than its features, and their blocks are what their sources draw."""

import cv2
import keras
import numpy as np
import pytest
from keras import layers, ops

from unet.architecture import build_unet
from unet.config import UNetConfig
from unet.decoders import inception_se_block, squeeze_and_excite
from unet.encoders import Skip
from unet.fcn import Bilinear, fcn8s_decoder
from unet.layers import convolution
from unet.parts import DECODERS

CONVOLUTIONS = (layers.Conv2D, layers.Conv2DTranspose)


def make_skips(channels, size=16, first_stride=1):
    """Inputs in the place of an encoder's features."""
    skips = []
    for level, count in enumerate(channels):
        stride = first_stride * 2**level
        skips.append(Skip(stride, keras.Input((size // stride, size // stride, count), name=f"skip{stride}")))
    return skips


def decode(skips, config):
    output = DECODERS[config.DECODER](skips, config)
    # FCN-8s uses three, and some versions of Keras refuse inputs that lead nowhere.
    used = skips[-3:] if config.DECODER == "fcn8s" else skips
    return keras.Model([skip.tensor for skip in used], output)


@pytest.mark.backend
@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_reaches_full_resolution_from_any_features(decoder):
    filters = {"ENCODER_FILTERS": (8, 16, 16, 24), "DECODER_FILTERS": (16, 8) if decoder == "fcn8s" else None}
    config = UNetConfig().update({"ENCODER": "plain", "DECODER": decoder, **filters})
    model = decode(make_skips((3, 5, 7, 11)), config)
    assert model.output_shape == (None, 16, 16, 3)
    assert model.layers[-1].name == "logits"
    assert all(layer.name.startswith(("decoder_", "skip")) for layer in model.layers[:-1])


@pytest.mark.parametrize("decoder", ["plain", "inception-se", "fpn"])
def test_behind_encoders_that_begin_by_halving_the_last_step_has_the_image_size(decoder):
    config = UNetConfig().update({"DECODER": decoder, "DECODER_FILTERS": (8, 8, 8, 8, 8)})
    model = decode(make_skips((3, 5, 7, 11, 13), size=64, first_stride=2), config)
    assert model.output_shape == (None, 64, 64, 3)


@pytest.mark.parametrize("decoder", ["plain", "inception-se", "fpn"])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_batch_norm_follows_every_convolution_or_none(decoder, batch_norm):
    config = UNetConfig().update(
        {"ENCODER": "plain", "DECODER": decoder, "ENCODER_FILTERS": (8, 8, 8), "BATCH_NORM": batch_norm}
    )
    model = decode(make_skips((8, 8, 8)), config)
    followers = [
        [operation.__class__.__name__ for operation in following(layer)]
        for layer in model.layers
        if isinstance(layer, CONVOLUTIONS) and layer.name != "logits"
    ]
    assert followers
    assert all((names == ["BatchNorm"]) == batch_norm for names in followers)


def following(layer):
    """The layers that take a layer's output."""
    return [node.operation for node in layer._outbound_nodes]


@pytest.mark.backend
def test_squeeze_and_excitation_against_numpy(compiled):
    x = np.random.default_rng(0).normal(0, 1, (2, 3, 4, 8)).astype(np.float32)
    tensor = keras.Input((3, 4, 8))
    model = keras.Model(tensor, squeeze_and_excite(tensor, 4, "se"))
    reduce, widen = (model.get_layer(f"se_{name}").get_weights() for name in ("reduce", "excite"))
    assert reduce[0].shape == (8, 2)
    hidden = np.maximum(x.mean((1, 2)) @ reduce[0] + reduce[1], 0)
    factor = 1 / (1 + np.exp(-(hidden @ widen[0] + widen[1])))
    scaled = ops.convert_to_numpy(compiled(lambda y: model(y, training=False))(ops.convert_to_tensor(x)))
    np.testing.assert_allclose(scaled, x * factor[:, None, None, :], atol=1e-5)


def test_a_ratio_above_the_channels_leaves_one():
    tensor = keras.Input((3, 4, 8))
    model = keras.Model(tensor, squeeze_and_excite(tensor, 16, "se"))
    assert model.get_layer("se_reduce").units == 1


def test_the_inception_block_looks_at_three_sizes_at_once():
    config = UNetConfig()
    tensor = keras.Input((8, 8, 10))
    model = keras.Model(tensor, inception_se_block(tensor, 16, 1, config, "block"))
    sizes = {layer.name: (layer.kernel_size[0], layer.filters) for layer in model.layers if hasattr(layer, "filters")}
    assert sizes == {
        "block_1x1": (1, 4),
        "block_3x3_reduce": (1, 6),
        "block_3x3": (3, 8),
        "block_5x5_reduce": (1, 2),
        "block_5x5": (5, 4),
    }
    assert model.get_layer("block_branches").output.shape == (None, 8, 8, 16)
    assert model.output_shape == (None, 8, 8, 16)


@pytest.mark.parametrize("activation", ["relu", "elu", "selu"])
def test_the_activation_can_be_chosen(activation):
    config = UNetConfig().update({"ACTIVATION": activation})
    tensor = keras.Input((8, 8, 10))
    model = keras.Model(tensor, convolution(tensor, 4, 3, config, "one"))
    assert model.layers[-1].activation is getattr(keras.activations, activation)
    config.update({"BATCH_NORM": False})
    model = keras.Model(tensor, convolution(tensor, 4, 3, config, "one"))
    assert model.layers[-1].activation is getattr(keras.activations, activation)


def test_the_fcn_scores_the_last_three_poolings_behind_two_layers_with_dropout():
    config = UNetConfig.from_preset("fcn8s", {"DECODER_FILTERS": (12, 10)})
    skips = make_skips((2, 3, 4, 5, 6), size=64, first_stride=2)
    model = keras.Model([skip.tensor for skip in skips[2:]], fcn8s_decoder(skips, config))
    fc6, fc7 = (model.get_layer(name) for name in ("decoder_fc6", "decoder_fc7"))
    assert [(layer.kernel_size, layer.filters) for layer in (fc6, fc7)] == [((7, 7), 12), ((1, 1), 10)]
    for layer in (fc6, fc7):
        (dropout,) = following(layer)
        assert dropout.rate == 0.5
        assert layer.activation is keras.activations.relu
    ups = [layer for layer in model.layers if isinstance(layer, layers.Conv2DTranspose)]
    assert [(layer.strides, layer.kernel_size) for layer in ups] == [((2, 2), (4, 4))] * 2 + [((8, 8), (16, 16))]


@pytest.mark.backend
@pytest.mark.parametrize("factor", [2, 8])
def test_upsampling_begins_as_bilinear_interpolation(factor, compiled):
    rng = np.random.default_rng(0)
    image = rng.normal(0, 1, (6, 7, 2)).astype(np.float32)
    layer = layers.Conv2DTranspose(
        2, 2 * factor, strides=factor, padding="same", use_bias=False, kernel_initializer=Bilinear()
    )
    layer.build((None, 6, 7, 2))
    larger = ops.convert_to_numpy(compiled(layer)(ops.convert_to_tensor(image[None])))[0]
    expected = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    # At the edges the convolution sees zeros beside the image, where resizing repeats it.
    inside = slice(factor, -factor)
    np.testing.assert_allclose(larger[inside, inside], expected[inside, inside], atol=1e-5)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_saved_network_is_read_back_in_safe_mode(decoder, tmp_path):
    filters = {"ENCODER_FILTERS": (4, 4, 4, 4), "DECODER_FILTERS": (8, 8) if decoder == "fcn8s" else (8, 8, 8)}
    model = build_unet(UNetConfig().update({"ENCODER": "plain", "DECODER": decoder, **filters}))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    image = np.random.default_rng(0).uniform(0, 255, (1, 16, 24, 3)).astype(np.float32)
    expected, found = (ops.convert_to_numpy(network(image, training=False)) for network in (model, loaded))
    assert expected.std() > 0
    np.testing.assert_array_equal(found, expected)
