"""The networks of the presets: their published sizes, the shapes they give, and what a stage freezes."""

import keras
import numpy as np
import pytest
from keras import ops

from trainkit.settings import SettingsError
from unet.architecture import build_unet, encoder_layer_names
from unet.config import UNetConfig
from unet.layers import SymmetricPadding
from unet.parts import DECODERS, ENCODERS
from unet.presets import PRESETS

pytestmark = pytest.mark.backend

# Weights of the encoder without its classifier, as keras.applications publishes it.
PUBLISHED_ENCODERS = {
    "xception": 20_861_480,
    "resnet50": 23_587_712,
    "resnet101": 42_658_176,
    "resnet152": 58_370_944,
    "vgg16": 14_714_688,
    # 4,652,008 published weights that learn, less 1,281,000 of the classifier and 412,160 of the last convolution, and
    # the 39,456 statistics of batch normalisation.
    "efficientnet-lite0": 4_652_008 - 1_281_000 - 412_160 + 39_456,
}
RESNETS = [name for name in PRESETS if name.startswith("resnet")]


def output_shape(model, config):
    """The output's shape for an image of two by three strides."""
    return model.compute_output_shape((2, 2 * config.stride, 3 * config.stride, 3))


def expected_shape(config):
    return (2, 2 * config.stride, 3 * config.stride, len(config.channels))


def test_symmetric_padding_shows_convolutions_the_mirror_image():
    rng = np.random.default_rng(0)
    image = rng.uniform(0, 255, (1, 8, 12, 3)).astype(np.float32)
    for width in (1, 2):
        padded = ops.convert_to_numpy(SymmetricPadding(width)(image))
        expected = np.pad(image, ((0, 0), (width, width), (width, width), (0, 0)), mode="symmetric")
        np.testing.assert_array_equal(padded, expected)
    small = {"ENCODER_FILTERS": (4, 6, 8), "IMAGE_SIZE": 32, "LOGITS_SIZE": 3}
    mirrored, zeros = (
        build_unet(UNetConfig.from_preset("plain-bn", {**small, "PADDING": padding}))
        for padding in ("symmetric", "zeros")
    )
    assert mirrored.count_params() == zeros.count_params()
    zeros.set_weights(mirrored.get_weights())
    # A constant image has constant features: no edge is made up. With zeros beyond the edge, it shows.
    flat, spreads = np.full((1, 16, 16, 3), 120, np.float32), []
    for model in (mirrored, zeros):
        features = keras.Model(model.inputs, model.get_layer("encoder_4_conv2_act").output)
        spreads.append(np.ptp(ops.convert_to_numpy(features(flat)), axis=(1, 2)).max())
    assert spreads[0] < 1e-5 < spreads[1]


def encoder_size(model):
    return sum(model.get_layer(name).count_params() for name in encoder_layer_names(model))


@pytest.mark.parametrize(
    ("preset", "parameters"), [("small", 1_941_105), ("original", 31_032_257), ("original-tuned", 31_032_257)]
)
def test_published_numbers_of_parameters(preset, parameters):
    config = UNetConfig.from_preset(preset)
    model = build_unet(config)
    assert model.count_params() == parameters
    assert output_shape(model, config) == expected_shape(config)
    side = config.IMAGE_SIZE
    assert model.compute_output_shape((1, side, side, 3)) == (1, side, side, 1)


@pytest.mark.parametrize("preset", sorted(PRESETS.keys() - {"small", "original", "original-tuned"}))
def test_every_pixel_gets_every_channel(preset, resnets):
    config = UNetConfig.from_preset(preset)
    if preset == "fcn8s":
        # Its two fully convolutional layers have 120 million weights, which say nothing about shapes.
        config.update({"DECODER_FILTERS": (16, 16)})
    if preset in RESNETS:
        image, skips = resnets(config)
        model = keras.Model(image, DECODERS[config.DECODER](skips, config))
    else:
        model = build_unet(config)
    assert output_shape(model, config) == expected_shape(config)
    if config.ENCODER in PUBLISHED_ENCODERS:
        assert encoder_size(model) == PUBLISHED_ENCODERS[config.ENCODER]


@pytest.fixture(scope="module")
def resnets():
    """Returns a function that gives a ResNet's image and features; the last one is kept, for its other decoder."""
    built = {}

    def build(config):
        if config.ENCODER not in built:
            built.clear()
            image = keras.Input((None, None, 3))
            built[config.ENCODER] = image, ENCODERS[config.ENCODER](image, config)
        return built[config.ENCODER]

    return build


def test_features_of_the_image_stand_beside_the_last_level_and_belong_to_the_decoder():
    with_skip = UNetConfig.from_preset("efficientnet-lite0")
    without = UNetConfig.from_preset("efficientnet-lite0", {"IMAGE_SKIP_FILTERS": 0})
    ours, theirs = build_unet(with_skip), build_unet(without)
    assert encoder_layer_names(ours) == encoder_layer_names(theirs)
    widths = [model.get_layer("decoder_1_conv1").kernel.shape[2] for model in (ours, theirs)]
    assert widths == [32 + 16, 32]
    assert ours.get_layer("decoder_image_conv").kernel.shape == (3, 3, 3, 16)


@pytest.mark.parametrize("decoder", DECODERS)
def test_encoder_and_decoder_share_the_layers_among_them(decoder):
    filters = {"ENCODER_FILTERS": (8, 8, 8, 16), "DECODER_FILTERS": (16, 16) if decoder == "fcn8s" else None}
    model = build_unet(UNetConfig().update({"ENCODER": "plain", "DECODER": decoder, **filters}))
    encoder = encoder_layer_names(model)
    assert encoder
    assert all(name.startswith("encoder_") for name in encoder)
    others = [layer.name for layer in model.layers if layer.weights and layer.name not in encoder]
    assert "logits" in others
    assert all(name.startswith("decoder_") for name in others if name != "logits")


@pytest.mark.parametrize(
    "settings",
    [
        {"ENCODER": "plain", "DECODER": "plain", "ENCODER_FILTERS": (8, 8, 16)},
        {"ENCODER": "plain", "DECODER": "inception-se", "ENCODER_FILTERS": (8, 8, 16), "SE_RATIO": 2},
        {"ENCODER": "plain", "DECODER": "fpn", "ENCODER_FILTERS": (8, 8, 16), "PRECISION": "mixed_bfloat16"},
    ],
    ids=lambda settings: settings["DECODER"],
)
def test_probabilities_are_float32_and_differ_from_image_to_image(settings, compiled):
    keras.utils.set_random_seed(0)
    config = UNetConfig().update(settings)
    model = build_unet(config)
    assert model.get_layer("logits").compute_dtype == config.PRECISION.removeprefix("mixed_")
    assert {weight.dtype for weight in model.trainable_weights} == {"float32"}
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 12, 3)).astype(np.float32)
    probabilities = ops.convert_to_numpy(compiled(lambda x: model(x, training=False))(ops.convert_to_tensor(images)))
    assert probabilities.shape == (2, 8, 12, 3)
    assert probabilities.dtype == np.float32
    assert (probabilities > 0).all()
    assert (probabilities < 1).all()
    assert np.abs(probabilities[0] - probabilities[1]).max() > 1e-4


def test_a_function_of_a_program_is_a_part_of_the_network(monkeypatch):
    """Entered under a name of its own, it is accepted by the settings and built into the network."""
    called = []

    def decode(skips, config):
        called.append(config.DECODER)
        return DECODERS["plain"](skips, config)

    monkeypatch.setitem(DECODERS, "mine", decode)
    build_unet(UNetConfig().update({"ENCODER": "plain", "ENCODER_FILTERS": (4, 6), "DECODER": "mine"}))
    assert called == ["mine"]
    monkeypatch.delitem(DECODERS, "mine")
    with pytest.raises(SettingsError, match="DECODER must be one of"):
        UNetConfig().update({"DECODER": "mine"})
