"""Encoders: features at every stride, and the published networks on the pixels that those expect."""

import keras
import numpy as np
import pytest
from keras import ops

from unet.config import UNetConfig
from unet.encoders import plain_encoder
from unet.layers import ScalePixels
from unet.parts import ENCODERS

CHANNELS = {
    "xception": (64, 128, 256, 728, 2048),
    "resnet50": (64, 256, 512, 1024, 2048),
    "vgg16": (64, 128, 256, 512, 512),
    "efficientnet-lite0": (16, 24, 40, 112, 320),
}


@pytest.mark.parametrize("encoder", CHANNELS)
def test_published_encoders_give_features_at_five_strides(encoder):
    image = keras.Input((None, None, 3))
    skips = ENCODERS[encoder](image, UNetConfig())
    assert [skip.stride for skip in skips] == [2, 4, 8, 16, 32]
    shapes = keras.Model(image, [skip.tensor for skip in skips]).compute_output_shape((1, 64, 96, 3))
    expected = zip((2, 4, 8, 16, 32), CHANNELS[encoder], strict=True)
    assert [tuple(shape) for shape in shapes] == [(1, 64 // s, 96 // s, channels) for s, channels in expected]


@pytest.mark.backend
def test_the_plain_encoder_has_a_level_for_each_of_its_filters():
    config = UNetConfig().update({"ENCODER": "plain", "DECODER": "plain", "ENCODER_FILTERS": (4, 6, 8), "DROPOUT": 0.1})
    image = keras.Input((8, 12, 1))
    skips = plain_encoder(image, config)
    assert [(skip.stride, *skip.tensor.shape[1:]) for skip in skips] == [(1, 8, 12, 4), (2, 4, 6, 6), (4, 2, 3, 8)]


@pytest.mark.backend
@pytest.mark.parametrize(
    ("scheme", "reference"),
    [
        ("unit", lambda pixels: pixels / 255),
        ("symmetric", keras.applications.xception.preprocess_input),
        ("caffe", keras.applications.resnet.preprocess_input),
        ("lite", lambda pixels: (pixels - 127) / 128),
    ],
)
def test_pixels_are_scaled_as_the_published_networks_are_fed(scheme, reference):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3)).astype(np.float32)
    scaled = ops.convert_to_numpy(ScalePixels(scheme)(pixels))
    np.testing.assert_allclose(scaled, reference(pixels.copy()), atol=1e-4)
    with pytest.raises(ValueError, match=r"scheme must be one of unit, .*Received: 'other'"):
        ScalePixels("other")
