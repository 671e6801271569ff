"""The network: an encoder, a decoder, and a probability for each pixel and channel."""

from __future__ import annotations

import re

import keras

from trainkit.compiled import precision_scope
from trainkit.precision import resolve_precision
from unet.config import UNetConfig
from unet.decoders import DECODERS
from unet.encoders import ENCODERS, image_skip

# Whole names of the layers that are not the encoder's, as a regular expression.
DECODER_LAYERS = r"decoder_.*|logits"


def build_unet(config: UNetConfig) -> keras.Model:
    """Builds a network with random weights.

    Args:
        config: The configuration.

    Returns:
        A model from images `[B, H, W, C]` in 0..255, RGB, H and W multiples of `config.stride`, to probabilities
        float32 `[B, H, W, output channels]` in 0..1, whose channels `config.channels` names.

    Raises:
        SettingsError: The configuration cannot be built.
    """
    config.validate()
    with precision_scope(resolve_precision(config.PRECISION)):
        image = keras.Input((None, None, config.IMAGE_CHANNEL_COUNT), name="image")
        skips = ENCODERS[config.ENCODER](image, config)
        if config.IMAGE_SKIP_FILTERS:
            skips = [image_skip(image, config), *skips]
        logits = DECODERS[config.DECODER](skips, config)
        probabilities = keras.layers.Activation("sigmoid", dtype="float32", name="probabilities")(logits)
    return keras.Model(image, probabilities, name=config.NAME)


def encoder_layer_names(model: keras.Model) -> list[str]:
    """Returns the names of the layers with weights that belong to a network's encoder."""
    return [layer.name for layer in model.layers if layer.weights and not re.fullmatch(DECODER_LAYERS, layer.name)]
