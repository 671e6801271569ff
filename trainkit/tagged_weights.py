"""Weights filled with numbers of their own, by which a network tells from which array of a file each of them is read.

By names alone that would be a guess: loading translates the names of older files, of nested layers and of layers that
Keras numbers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from trainkit.hdf5_files import WeightsFileError, open_for_reading, open_for_writing
from trainkit.hdf5_layout import read_names, write_groups
from trainkit.onnx_weights import Place, WeightsLayout


def write_tagged(weights: str | os.PathLike, target: str | os.PathLike) -> dict[int, str]:
    """Writes a weights file again, every array filled with a number of its own, and keeps the names.

    A network that loads it tells by its weights' values from which array each of them is read.

    Args:
        weights: Weights file in the legacy layout.
        target: File to write.

    Returns:
        Number -> path of the array in the file.

    Raises:
        WeightsFileError: The file cannot be read or has another layout.
        OSError: The target cannot be written.
    """
    with open_for_reading(weights) as file:
        layers = read_names(file, "layer_names")
        if layers is None:
            raise WeightsFileError(f"{weights}: holds no weights in the legacy layout")
        shapes = {
            layer: {name: file[layer][name].shape for name in read_names(file[layer], "weight_names")}
            for layer in layers
        }
    datasets: dict[int, str] = {}

    def tagged(layer: str, name: str) -> np.ndarray:
        datasets[len(datasets) + 1] = f"{layer}/{name}"
        return np.full(shapes[layer][name], len(datasets), np.float32)

    groups = [(layer, [(name, tagged(layer, name)) for name in shapes[layer]]) for layer in layers]
    with open_for_writing(target) as file:
        write_groups(file, groups, compress=True)
    return datasets


def tagged_layout(weights: Mapping[str, np.ndarray], tags: Mapping[int, str]) -> WeightsLayout:
    """Finds the places of weights that were loaded from a file of `write_tagged`.

    Args:
        weights: Name in the graph -> array.
        tags: Value of all elements of an array -> path of its dataset, in the order of the Keras model.

    Raises:
        ValueError: The network has weights that are not an array of the file each.
    """
    found = {}
    for name, array in weights.items():
        values = np.unique(array)
        if len(values) != 1 or int(values[0]) not in tags or int(values[0]) in found:
            raise ValueError(f"{name}: is not an array of the weights file as it is there")
        found[int(values[0])] = (name, array.shape)
    if found.keys() != tags.keys():
        raise ValueError(f"the graph has {len(found)} of the {len(tags)} arrays of the network")
    return WeightsLayout([Place(found[tag][0], dataset, found[tag][1]) for tag, dataset in tags.items()])
