"""Pretrained encoders: ImageNet's weights as keras.applications publishes them, or another U-Net's."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from trainkit.hdf5 import assign_all
from trainkit.hdf5_files import WeightsFileError, open_for_reading
from trainkit.hdf5_layout import read_layers
from trainkit.imagenet import download_imagenet
from trainkit.reading import reading
from unet.architecture import DECODER_LAYERS, encoder_layer_names
from unet.config import UNetConfig

# Regular expression over the classifiers' layers in published files, which a segmenter does not use.
_CLASSIFIERS = r"predictions|probs|fc\d+"
# Most layers that an error lists.
_LISTED = 5
# Layer of the published Xception, whose file has the names and numbers that Keras 1 gave to layers without names.
_KERAS_1_LAYER = "separableconvolution2d_1"

Arrays = Mapping[str, np.ndarray]


def encoder_weights_path(config: UNetConfig, weights_dir: str | os.PathLike | None = None) -> Path | None:
    """Returns the file of ENCODER_WEIGHTS, downloaded if it is ImageNet's and missing.

    Args:
        config: Configuration with ENCODER and ENCODER_WEIGHTS.
        weights_dir: Folder of downloads; by default `trainkit.imagenet.default_weights_dir()`.

    Returns:
        Path of the file, or None for random weights.

    Raises:
        DownloadError: The file could not be fetched; the message names its address and where to put it.
    """
    if config.ENCODER_WEIGHTS is None:
        return None
    if config.ENCODER_WEIGHTS == "imagenet":
        return download_imagenet(config.ENCODER, weights_dir)
    return Path(config.ENCODER_WEIGHTS)


def load_encoder_weights(model: keras.Model, path: str | os.PathLike) -> list[str]:
    """Loads the weights of a network's encoder.

    Args:
        model: Network from `build_unet`.
        path: File that keras.applications publishes for this encoder, or weights of a U-Net with this encoder.

    Returns:
        Names of the layers that were loaded.

    Raises:
        WeightsFileError: The file cannot be read or is another encoder's: it lacks a layer, has one too many, or has
            other shapes or types, or values that are NaN or infinite. The message names the layers; nothing is changed.
    """
    found = {name: arrays for name, arrays in read_layers(path).items() if arrays}
    with reading(path, "no weights of an encoder", WeightsFileError):
        found = _with_shortcut_names(_read_in_order(path) if _KERAS_1_LAYER in found else found)
    names = encoder_layer_names(model)
    expected = {name: [tuple(weight.shape) for weight in model.get_layer(name).weights] for name in names}
    others = [name for name in found if not re.fullmatch(f"{DECODER_LAYERS}|{_CLASSIFIERS}", name)]
    for problem, layers in (
        ("it lacks", [name for name in names if name not in found]),
        ("this encoder lacks", [name for name in others if name not in expected]),
        ("other shapes have", [name for name in names if name in found and _shapes(found[name]) != expected[name]]),
    ):
        if layers:
            listed = ", ".join(layers[:_LISTED]) + (f" and {len(layers) - _LISTED} more" * (len(layers) > _LISTED))
            raise WeightsFileError(f"{path}: weights of another encoder than {model.name} has: {problem} {listed}")
    assign_all((model.get_layer(name), found[name], f"{path}, layer {name}") for name in names)
    return names


def holds_an_encoder_alone(path: str | os.PathLike) -> bool:
    """Returns whether a weights file has no decoder and so belongs to `load_encoder_weights`.

    Args:
        path: Weights file in HDF5.

    Raises:
        WeightsFileError: The file cannot be read.
    """
    return not any(re.fullmatch(DECODER_LAYERS, name) for name, arrays in read_layers(path).items() if arrays)


def _read_in_order(path: str | os.PathLike) -> dict[str, Arrays]:
    """Reads a file of Xception whose layers only their order identifies, as keras.applications reads it."""
    published = keras.applications.Xception(weights=None, include_top=False)
    # Keras opens the file itself, and trusts what it refers to.
    with open_for_reading(path), reading(path, "no weights of Xception without its classifier", WeightsFileError):
        published.load_weights(path)
    return {
        layer.name: {weight.name: keras.ops.convert_to_numpy(weight) for weight in layer.weights}
        for layer in published.layers
        if layer.weights
    }


def _shapes(arrays: Arrays) -> list[tuple[int, ...]]:
    return [array.shape for array in arrays.values()]


def _with_shortcut_names(found: dict[str, Arrays]) -> dict[str, Arrays]:
    """Names the layers of Xception that keras.applications leaves to Keras to number.

    Numbers differ from file to file; channels tell the four shortcuts apart.
    """
    if "block14_sepconv2" not in found:
        return found
    blocks = {128: 2, 256: 3, 728: 4, 1024: 13}
    named = {}
    for name, arrays in found.items():
        channels = next(iter(arrays.values())).shape[-1]
        if not name.startswith(("block", "decoder_")) and channels in blocks:
            name = f"block{blocks[channels]}_shortcut" + ("_bn" if len(arrays) == 4 else "")
        named[name] = arrays
    return named
