"""Public weights: download of COCO's and ImageNet's, and loading of ImageNet's into the backbone."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

import keras
import numpy as np

from mrcnn.backbones import BACKBONES
from mrcnn.utils import COCO_MODEL_URL
from trainkit import imagenet
from trainkit.download import download
from trainkit.hdf5 import assign_all
from trainkit.hdf5_files import WeightsFileError
from trainkit.hdf5_layout import read_layers
from trainkit.imagenet import default_weights_dir
from trainkit.reading import reading

COCO_FILE = "mask_rcnn_coco.h5"
# keras.applications trained its ResNets with this batch-norm epsilon.
_IMAGENET_EPSILON = 1.001e-5
# Name of each convolution of a block -> its number in keras.applications.
_BRANCHES = {"branch1": "0", "branch2a": "1", "branch2b": "2", "branch2c": "3"}
# Layers of EfficientNet-Lite0, in the model and in its file alike.
_LITE = r"(stem|block\d[a-z])_\w+"
# Layers with weights in files of ImageNet's weights, without those of a classifier.
_IN_FILES = rf"conv1_(conv|bn)|conv\d_block\d+_\d_(conv|bn)|{_LITE}"


def download_coco(weights_dir: str | os.PathLike | None = None) -> Path:
    """Returns the file of the public COCO weights (ResNet-101, 81 classes), after downloading it if missing.

    Args:
        weights_dir: Folder of the file; by default `trainkit.imagenet.default_weights_dir()`.

    Raises:
        DownloadError: The transfer failed; the message names the address and the place for the file.
    """
    path = Path(weights_dir or default_weights_dir()) / COCO_FILE
    return download(COCO_MODEL_URL, path, what="Mask R-CNN weights trained on COCO")


def download_imagenet(backbone: str, weights_dir: str | os.PathLike | None = None) -> Path:
    """Returns the file of a backbone's ImageNet weights without its classifier: a shipped one, or one downloaded.

    Args:
        backbone: Key of `mrcnn.backbones.BACKBONES`.
        weights_dir: Folder of the file; by default `trainkit.imagenet.default_weights_dir()`.

    Raises:
        ValueError: There are no public weights for this backbone.
        DownloadError: The transfer failed; the message names the address and the place for the file.
    """
    published = {name: entry.imagenet for name, entry in BACKBONES.items() if entry.imagenet is not None}
    if backbone not in published:
        raise ValueError(f"ImageNet weights exist for {list(published)}. Received backbone: {backbone!r}")
    return imagenet.download_imagenet(published[backbone], weights_dir or default_weights_dir())


def imagenet_name(layer: str) -> str | None:
    """Returns the name of a backbone's layer in files of ImageNet's weights, or None for other layers.

    It is that of keras.applications in ResNets, and the layer's own in EfficientNet-Lite0.

    Examples:
        >>> imagenet_name("res4b_branch2a"), imagenet_name("bn_conv1"), imagenet_name("fpn_p2")
        ('conv4_block2_1_conv', 'conv1_bn', None)
        >>> imagenet_name("block5c_expand_conv")
        'block5c_expand_conv'
    """
    if re.fullmatch(_LITE, layer):
        return layer
    if layer in ("conv1", "bn_conv1"):
        return "conv1_conv" if layer == "conv1" else "conv1_bn"
    for prefix, suffix in (("res", "conv"), ("bn", "bn")):
        block, _, branch = layer.removeprefix(prefix).partition("_")
        if layer.startswith(prefix) and len(block) == 2 and branch in _BRANCHES:
            stage, letter = block
            return f"conv{stage}_block{ord(letter) - ord('a') + 1}_{_BRANCHES[branch]}_{suffix}"
    return None


def is_imagenet_file(path: str | os.PathLike) -> bool:
    """Returns True if a weights file has a ResNet of keras.applications, or an EfficientNet-Lite0 and nothing else."""
    layers = _layers_with_weights(path)
    return "conv1_conv" in layers or ("stem_conv" in layers and all(re.fullmatch(_LITE, name) for name in layers))


def load_imagenet(model: keras.Model, path: str | os.PathLike, exclude: Collection[str] = ()) -> list[str]:
    """Loads weights trained on ImageNet into the backbone of a model.

    Two differences of the ResNets of keras.applications are corrected: their first convolution expects BGR, this one
    RGB; and the epsilon of their batch norm differs, which the scale absorbs. A third remains, as in the lineage: the
    first pooling pads at the end only, so that its windows lie one pixel further down and right.

    Args:
        model: A Mask R-CNN with a backbone that has such weights.
        path: Weights file of keras.applications, or the shipped one of EfficientNet-Lite0.
        exclude: Names of the model's layers that keep their weights.

    Returns:
        Names of the loaded layers.

    Raises:
        WeightsFileError: The file lacks a layer or has other shapes: it belongs to another backbone; or it is damaged.
            Nothing is changed then.
    """
    found = _layers_with_weights(path)
    names = {layer: imagenet_name(layer.name) for layer in model.layers if layer.weights}
    targets = {layer: name for layer, name in names.items() if name is not None}
    different = sorted({name for name in found if re.fullmatch(_IN_FILES, name)} ^ set(targets.values()))
    if different:
        raise WeightsFileError(f"{path}: weights of another backbone; differing layers: {', '.join(different[:5])}")
    wanted = {layer: name for layer, name in targets.items() if layer.name not in exclude}
    with reading(path, "no weights of a backbone trained on ImageNet", WeightsFileError):
        assign_all(
            (layer, _adapt(layer, name, dict(found[name])), f"{path}, layer {name}") for layer, name in wanted.items()
        )
    return [layer.name for layer in wanted]


def _layers_with_weights(path: str | os.PathLike) -> dict[str, dict[str, np.ndarray]]:
    return {name: arrays for name, arrays in read_layers(path).items() if arrays}


def _adapt(layer: keras.Layer, name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Converts the arrays of a ResNet's layer; EfficientNet-Lite0, whose names are the same, needs no change."""
    if name == layer.name:
        return arrays
    if layer.name == "conv1":
        arrays["kernel"] = arrays["kernel"][:, :, ::-1]
    if "moving_variance" in arrays:
        variance = arrays["moving_variance"]
        # Of negative variances, which no file should have, nothing is left but NaN, which is refused.
        with np.errstate(invalid="ignore", divide="ignore"):
            arrays["gamma"] = arrays["gamma"] * np.sqrt((variance + layer.epsilon) / (variance + _IMAGENET_EPSILON))
    return arrays
