"""Protects the pictures of channels and labels, and the levels that a network is taken apart into."""

import keras
import numpy as np
import pytest

from unet.architecture import build_unet
from unet.config import UNetConfig
from unet.inspection import (
    CHANNEL_COLOURS,
    DISAGREEMENT_COLOURS,
    colour_labels,
    draw_channels,
    draw_disagreement,
    level_layers,
)
from unet.targets import CHANNELS


def test_channels_are_painted_one_over_the_other():
    channels = np.zeros((1, 4, 2))
    channels[0, 1, 0] = channels[0, 2] = 1
    channels[0, 3, 0] = 0.5
    picture = draw_channels(channels, ("mask", "border"))
    mask, border = CHANNEL_COLOURS["mask"], CHANNEL_COLOURS["border"]
    assert picture.dtype == np.uint8
    np.testing.assert_allclose(picture[0], [(0, 0, 0), mask, border, np.array(mask) / 2], atol=1)


def test_the_image_shines_through():
    image = np.full((1, 2, 3), 200, np.uint8)
    picture = draw_channels(np.array([[[0], [1]]], np.uint8), ("mask",), image)
    np.testing.assert_array_equal(picture[0, 0], image[0, 0])
    blue = np.array(CHANNEL_COLOURS["mask"])
    assert (np.abs(picture[0, 1] - blue) < np.abs(200.0 - blue)).all() and (picture[0, 1] != blue).all()
    np.testing.assert_array_equal(image, 200)


def test_every_channel_has_a_colour():
    assert {name for names in CHANNELS.values() for name in names} <= CHANNEL_COLOURS.keys()


def test_channels_without_a_name_are_refused():
    with pytest.raises(ValueError, match=r"\[H, W, 2\] \(mask, border\)"):
        draw_channels(np.zeros((4, 4, 3)), ("mask", "border"))


def test_disagreement_distinguishes_too_much_from_missing():
    truth, predicted = np.array([[0, 0, 1, 1]]), np.array([[0, 1, 0, 1]])
    names = ("too much", "missing", "right")
    np.testing.assert_array_equal(
        draw_disagreement(truth, predicted), [[(0, 0, 0), *(DISAGREEMENT_COLOURS[name] for name in names)]]
    )


def test_labels_have_colours_of_their_own():
    labels = np.arange(300).reshape(15, 20)
    picture = colour_labels(labels)
    assert picture.shape == (15, 20, 3) and not picture[0, 0].any()
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 300
    np.testing.assert_array_equal(colour_labels(np.minimum(labels, 3))[0, :4], picture[0, :4])
    following = np.abs(np.diff(picture.reshape(-1, 3).astype(int), axis=0)).max(axis=1)
    assert following.min() > 60
    np.testing.assert_array_equal(colour_labels(np.zeros((2, 3), np.int32)), np.zeros((2, 3, 3)))


def strides_of(model, found, side=64):
    outputs = keras.Model(model.input, [layer.output for layer in found])(np.zeros((1, side, side, 3), np.float32))
    return [side // output.shape[1] for output in outputs]


@pytest.mark.parametrize(
    ("settings", "encoder", "decoder"),
    [
        ({"DECODER": "plain"}, [1, 2, 4, 8], [4, 2, 1]),
        ({"DECODER": "inception-se"}, [1, 2, 4, 8], [4, 2, 1]),
        ({"DECODER": "plain", "BATCH_NORM": False, "DROPOUT": 0.1}, [1, 2, 4, 8], [4, 2, 1]),
        ({"DECODER": "fpn"}, [1, 2, 4, 8], None),
        ({"DECODER": "fcn8s", "DECODER_FILTERS": (8, 8)}, [2, 4, 8], None),
    ],
)
def test_levels_are_those_of_the_architecture(settings, encoder, decoder):
    config = UNetConfig.from_preset(
        settings={
            "ENCODER": "plain",
            "ENCODER_FILTERS": (8, 8, 8, 8),
            "DECODER_FILTERS": (16, 8, 8),
            "TARGETS": "mask",
            "POSTPROCESS": "components",
            "IMAGE_SIZE": 64,
            **settings,
        }
    )
    model = build_unet(config)
    skips, levels = level_layers(model)
    assert strides_of(model, skips) == encoder
    names = [layer.name for layer in levels]
    assert len(names) == len(set(names))
    if decoder is None:
        assert strides_of(model, levels)[0] > strides_of(model, levels)[-1]
    else:
        assert strides_of(model, levels) == decoder
        assert [layer.output.shape[-1] for layer in levels] == [16, 8, 8]
