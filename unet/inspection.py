"""Pictures of targets, probabilities and labels, and the levels of a segmenter's network."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Sequence

import keras
import numpy as np

from unet.architecture import DECODER_LAYERS

Colour = tuple[int, int, int]

# Channel -> colour, RGB in 0..255; a palette that the colour-blind can tell apart (Okabe and Ito 2008).
CHANNEL_COLOURS: dict[str, Colour] = {
    "mask": (0, 114, 178),
    "borderless": (86, 180, 233),
    "core": (0, 158, 115),
    "border": (230, 159, 0),
    "touching": (213, 94, 0),
}
# Agreement and disagreement of a prediction with the truth -> colour, RGB in 0..255.
DISAGREEMENT_COLOURS: dict[str, Colour] = {
    "right": (190, 190, 190),
    "too much": (213, 60, 0),
    "missing": (0, 130, 220),
}
_OPACITY = 0.75
# Distance of hues of neighbours in label order, which then differ strongly.
_GOLDEN_SECTION = 0.618034
# Layers of one level of a decoder begin alike: decoder_16, decoder_top_16, decoder_fpn_lateral, decoder_fc6.
_LEVEL = r"decoder_(?:top_|fpn_)?[a-z]*\d*"


def draw_channels(channels: np.ndarray, names: Sequence[str], image: np.ndarray | None = None) -> np.ndarray:
    """Paints channels over each other, each in its colour and as opaque as its values are high.

    Args:
        channels: `[H, W, C]` in 0..1, targets or probabilities; the first is painted first.
        names: Names of the C channels, keys of `CHANNEL_COLOURS`.
        image: uint8 `[H, W, 3]`, RGB, to paint on; by default black, on which full values are opaque.

    Returns:
        uint8 `[H, W, 3]`, RGB.

    Raises:
        ValueError: The number of names is not the number of channels.
    """
    if channels.ndim != 3 or channels.shape[-1] != len(names):
        raise ValueError(f"Expected channels [H, W, {len(names)}] ({', '.join(names)}). Received: {channels.shape}")
    opacity = 1.0 if image is None else _OPACITY
    picture = np.zeros((*channels.shape[:2], 3)) if image is None else image.astype(np.float64)
    for index, name in enumerate(names):
        share = opacity * channels[..., index, None].astype(np.float64)
        picture += share * (np.array(CHANNEL_COLOURS[name]) - picture)
    return np.rint(picture).astype(np.uint8)


def draw_disagreement(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Paints where two masks agree and where they differ, in `DISAGREEMENT_COLOURS` on black.

    Args:
        truth: bool `[H, W]`, true mask.
        predicted: bool `[H, W]`, predicted mask.

    Returns:
        uint8 `[H, W, 3]`, RGB.
    """
    truth, predicted = truth.astype(bool), predicted.astype(bool)
    picture = np.zeros((*truth.shape, 3), np.uint8)
    picture[truth & predicted] = DISAGREEMENT_COLOURS["right"]
    picture[predicted & ~truth] = DISAGREEMENT_COLOURS["too much"]
    picture[truth & ~predicted] = DISAGREEMENT_COLOURS["missing"]
    return picture


def colour_labels(labels: np.ndarray) -> np.ndarray:
    """Paints every label in a colour of its own, on black.

    Args:
        labels: Integer `[H, W]` label image, 0 background. A label has the same colour in every picture.

    Returns:
        uint8 `[H, W, 3]`, RGB.
    """
    hues = (np.arange(1, int(labels.max(initial=0)) + 1) * _GOLDEN_SECTION) % 1.0
    # Three brightnesses in turn: there are more labels than hues that look different.
    colours = [colorsys.hsv_to_rgb(hue, 0.75, 1.0 - 0.18 * (index % 3)) for index, hue in enumerate(hues)]
    palette = np.array([(0.0, 0.0, 0.0), *colours])
    return np.rint(255 * palette).astype(np.uint8)[labels]


def level_layers(model: keras.Model) -> tuple[list[keras.Layer], list[keras.Layer]]:
    """Finds the layers at which a network's parts and levels meet.

    Args:
        model: Network from `unet.architecture.build_unet`.

    Returns:
        The encoder's layers whose features the decoder gets, from high resolution to low, and the last layer of each
        of the decoder's levels, in the order of computation.
    """
    producers = {id(layer.output): layer for layer in model.layers}
    is_decoder = {layer.name: bool(re.fullmatch(DECODER_LAYERS, layer.name)) for layer in model.layers}
    handed_over, levels = set(), {}
    for layer in model.layers:
        if not is_decoder[layer.name]:
            continue
        inputs = layer.input if isinstance(layer.input, list) else [layer.input]
        handed_over |= {producers[id(tensor)].name for tensor in inputs}
        level = re.match(_LEVEL, layer.name)
        if level:
            levels[level.group()] = layer
    skips = [layer for layer in model.layers if layer.name in handed_over and not is_decoder[layer.name]]
    return skips, list(levels.values())
