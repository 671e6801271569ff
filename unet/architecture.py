"""Network: an encoder, a decoder, and a probability for each pixel and channel."""

from __future__ import annotations

import re

import keras

from trainkit.compiled import precision_scope
from trainkit.devices import building_on
from trainkit.precision import resolve_precision
from unet.config import UNetConfig
from unet.encoders import image_skip
from unet.parts import DECODERS, ENCODERS

# Regular expression that matches the whole names of the layers behind the encoder.
DECODER_LAYERS = r"decoder_.*|logits"
# Named sets of layers that a stage of training may name.
LAYER_REGEX = {"decoder": DECODER_LAYERS, "convolutions": r"(?!.*_bn$).*", "all": ".*"}
# Weights that L2 applies to: the kernels of convolutions, not biases or batch normalisation.
_DECAYED = ("kernel", "depthwise_kernel", "pointwise_kernel")


def build_unet(config: UNetConfig) -> keras.Model:
    """Builds a network with random weights.

    Args:
        config: Configuration of encoder, decoder, channels and precision.

    Returns:
        A model from images `[B, H, W, C]` in 0..255, RGB, H and W multiples of `config.stride`, to probabilities
        float32 `[B, H, W, output channels]` in 0..1, whose channels `config.channels` names.

    Raises:
        SettingsError: The configuration cannot be built.
        DevicesError: There are no GPU_COUNT devices that train together.
    """
    config.validate()
    with building_on(config.GPU_COUNT), precision_scope(resolve_precision(config.PRECISION)):
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


def set_weight_decay(model: keras.Model, factor: float) -> None:
    """Adds an L2 penalty to the loss: a factor times the sum of squares of every kernel that learns.

    Args:
        model: Network from `build_unet`; takes effect when it is compiled.
        factor: Factor of the sum, 0 or more; 0 removes the penalty.
    """
    for weight in model.weights:
        if weight.name in _DECAYED:
            weight.regularizer = keras.regularizers.L2(factor) if factor else None
