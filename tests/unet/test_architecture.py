"""The networks of the presets: their published sizes, the shapes they give, and what a stage freezes."""

import keras
import numpy as np
import pytest
from keras import ops

from trainkit.settings import SettingsError
from unet.architecture import build_unet, encoder_layer_names
from unet.config import UNetConfig, make_config
from unet.presets import PRESETS

pytestmark = pytest.mark.backend

# Those of the encoder without its top: what keras.applications has.
PUBLISHED_ENCODERS = {"xception": 20_861_480, "resnet50": 23_587_712, "vgg16": 14_714_688}


def build(preset, **settings):
    return build_unet(make_config(preset, {"ENCODER_WEIGHTS": None, **settings}))


@pytest.mark.parametrize(("preset", "parameters"), [("small", 1_941_105), ("original", 31_031_745)])
def test_published_numbers_of_parameters(preset, parameters):
    model = build(preset)
    assert model.count_params() == parameters
    assert model.compute_output_shape((1, 128, 128, 3)) == (1, 128, 128, 1)


@pytest.mark.parametrize(
    "preset", ["plain-bn", "xception", "xception-inceptionse", "resnet50", "resnet50-fpn", "fcn8s"]
)
def test_every_pixel_gets_every_channel(preset):
    config = make_config(preset, {"ENCODER_WEIGHTS": None})
    # Of the right shape whatever the widths; narrow where the network lets them be chosen.
    if config.ENCODER == "plain":
        config.update({"ENCODER_FILTERS": (8, 8, 8, 8, 8)})
    config.update({"DECODER_FILTERS": (16, 16) if config.DECODER == "fcn8s" else None})
    model = build_unet(config)
    side = 2 * config.stride
    assert model.compute_output_shape((2, side, 3 * config.stride, 3)) == (
        2,
        side,
        3 * config.stride,
        len(config.channels),
    )
    frozen = {model.get_layer(name) for name in encoder_layer_names(model)}
    assert all(
        layer in frozen or layer.name.startswith(("decoder_", "logits")) for layer in model.layers if layer.weights
    )
    if config.ENCODER in PUBLISHED_ENCODERS:
        assert sum(layer.count_params() for layer in frozen) == PUBLISHED_ENCODERS[config.ENCODER]


def test_batch_norm_follows_every_convolution_of_plain_bn():
    model = build("plain-bn", ENCODER_FILTERS=(8, 8, 8))
    convolutions = [
        layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose)
    ]
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    assert len(norms) == len(convolutions) - 1, "all but the last, which makes the logits"


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
    model = build_unet(UNetConfig().update(settings))
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 12, 3)).astype(np.float32)
    probabilities = ops.convert_to_numpy(compiled(lambda x: model(x, training=False))(ops.convert_to_tensor(images)))
    assert probabilities.shape == (2, 8, 12, 3)
    assert probabilities.dtype == np.float32
    assert (probabilities > 0).all() and (probabilities < 1).all()
    assert np.abs(probabilities[0] - probabilities[1]).max() > 1e-4


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"ENCODER": "vgg19"}, "ENCODER"),
        ({"DECODER": "plane"}, "DECODER"),
        ({"ACTIVATION": "gelu"}, "ACTIVATION"),
        ({"LOSS": "mse"}, "LOSS"),
        ({"TARGETS": "edges"}, "TARGETS"),
        ({"IMAGE_SIZE": 100}, "IMAGE_SIZE"),
        ({"MASK_THRESHOLD": 1.5}, "MASK_THRESHOLD"),
        ({"BATCH_SIZE": 0}, "BATCH_SIZE"),
        ({"STAGES": "all"}, "STAGES"),
        ({"DROPOUTS": 0.5}, "DROPOUTS"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(settings, named):
    with pytest.raises(SettingsError, match=named):
        UNetConfig().update(settings)


def test_all_presets_are_valid():
    for name in PRESETS:
        make_config(name)
