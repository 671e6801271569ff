"""The legacy HDF5 layout of Keras weights: groups, attributes and names, without any model.

Keras 1 and 2 wrote it, and so the files of matterport's Mask_RCNN and of keras.applications have it: the root (or
the group `model_weights` of a file that holds a whole model) has the attribute `layer_names`; each of these names
is a group whose attribute `weight_names` lists its datasets, such as `conv1/kernel:0`. A nested model is one group
whose datasets are named after its inner layers: `rpn_model` lists `rpn_conv_shared/kernel:0`.
"""

import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import h5py
import keras
import numpy as np

from trainkit.hdf5_files import WeightsFileError, open_for_reading

# Variable's name in older writers -> name in Keras today. `running_std` held the variance.
_RENAMED = {
    "W": "kernel",
    "b": "bias",
    "running_mean": "moving_mean",
    "running_std": "moving_variance",
    "running_var": "moving_variance",
}
_VARIABLES = {"kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", *_RENAMED}
# Bytes at which Keras splits a list of names: HDF5 stores an attribute in the object header, which holds 64 KiB.
_ATTRIBUTE_LIMIT = 64512


@dataclass(frozen=True)
class FileLayer:
    """Weights of one innermost layer in a file.

    Attributes:
        group: Name of the top-level layer whose group holds this one; differs from `name` inside a nested model.
        name: Name of the layer itself.
        arrays: Array by variable name (`kernel`, `gamma`, ...), in file order.
    """

    group: str
    name: str
    arrays: dict[str, np.ndarray]


def read_file_layers(path: str | os.PathLike) -> list[FileLayer]:
    """Reads every layer with weights from a file in the legacy layout.

    Args:
        path: File with or without the root group `model_weights`.

    Returns:
        The layers in file order, nested models split into their layers.

    Raises:
        WeightsFileError: The file is missing, damaged, has another layout, or has weights that are no real numbers.
    """
    with open_for_reading(path) as file:
        root = file
        if "layer_names" not in file.attrs and "layer_names0" not in file.attrs and "model_weights" in file:
            root = file["model_weights"]
        groups = read_names(root, "layer_names")
        if groups is None:
            raise WeightsFileError(
                f"{path}: not a weights file in the legacy Keras HDF5 layout (it has no attribute `layer_names`; "
                "a Keras 3 `.weights.h5` file has to be loaded with Keras and saved in this layout)"
            )
        return [layer for group in groups for layer in _read_group(path, root, group)]


def read_layers(path: str | os.PathLike) -> dict[str, dict[str, np.ndarray]]:
    """Reads a weights file as a flat table, for files whose layers have other names than the model's.

    Args:
        path: File in the legacy layout.

    Returns:
        Arrays by layer name and variable name (`kernel`, `bias`, `gamma`, `beta`, `moving_mean`, `moving_variance`,
        ...). Layers inside a nested model have their own name as key; layers that share a name have `group/name`.

    Raises:
        WeightsFileError: The file is missing, damaged, or has another layout.
    """
    layers = read_file_layers(path)
    uses = Counter(layer.name for layer in layers)
    return {layer.name if uses[layer.name] == 1 else f"{layer.group}/{layer.name}": layer.arrays for layer in layers}


def write_groups(
    file: h5py.File, groups: Iterable[tuple[str, list[tuple[str, np.ndarray]]]], compress: bool = False
) -> None:
    """Writes layers into an open, empty file in the legacy layout.

    Args:
        file: Open HDF5 file.
        groups: Pairs of a layer name and its weights: pairs of a name such as `conv1/kernel:0` and an array.
        compress: True to store the arrays with gzip.
    """
    names = []
    for name, weights in groups:
        group = file.create_group(name)
        names.append(name)
        _write_names(group, "weight_names", [weight for weight, _ in weights])
        for weight, array in weights:
            filters = {"compression": "gzip", "shuffle": True} if compress and array.ndim else {}
            group.create_dataset(weight, data=array, **filters)
    _write_names(file, "layer_names", names)
    file.attrs["backend"] = np.bytes_(keras.backend.backend())
    file.attrs["keras_version"] = np.bytes_(keras.__version__)


def _read_group(path: str | os.PathLike, root: h5py.Group, group: str) -> list[FileLayer]:
    """Returns the layers with weights in one group, found by the names of its datasets."""
    if group not in root:
        raise WeightsFileError(f"{path}: damaged, the layer {group} is listed but not there")
    weight_names = read_names(root[group], "weight_names")
    if weight_names is None:
        raise WeightsFileError(f"{path}: damaged, the layer {group} does not list its weights")

    parents = [_parent(group, name) for name in weight_names]
    # One layer's weights may stand under a name made unique (`conv1_1/kernel:0`) or inside its cell
    # (`lstm/lstm_cell/kernel:0`); with several parents the group is a nested model.
    sole = len(set(parents)) == 1 and all(
        group in name.split("/") or re.fullmatch(re.escape(group) + r"_\d+", parent)
        for name, parent in zip(weight_names, parents, strict=True)
    )
    layers: dict[str, dict[str, np.ndarray]] = {}
    for weight_name, parent in zip(weight_names, parents, strict=True):
        if weight_name not in root[group]:
            raise WeightsFileError(f"{path}: damaged, {weight_name} of the layer {group} is not there")
        arrays = layers.setdefault(group if sole else parent, {})
        arrays[unique_name(_variable_name(weight_name, parent), arrays)] = read_numbers(root[group][weight_name])
    return [FileLayer(group, name, arrays) for name, arrays in layers.items()]


def read_numbers(dataset: h5py.Dataset) -> np.ndarray:
    """Reads a dataset of real numbers.

    Args:
        dataset: Dataset of an open file.

    Returns:
        The array, whose type is a float, a whole number or bool.

    Raises:
        ValueError: It is no dataset, is empty in HDF5's sense, or has values of another kind (text, complex numbers,
            references, compound values).
    """
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise ValueError(f"{dataset.name} is no array")
    if dataset.dtype.kind not in "fiub":
        raise ValueError(f"{dataset.name} holds {dataset.dtype} and not real numbers")
    return dataset[()]


def _parent(group: str, weight_name: str) -> str:
    """Returns the layer's name in a weight name: the last folder, or the group if there is none."""
    folders = weight_name.split("/")[:-1]
    return folders[-1] if folders else group


def _variable_name(weight_name: str, layer: str) -> str:
    """Returns today's name of a variable: `kernel` for `conv1/kernel:0`, `conv1_W:0` and `conv1_W_1:0`."""
    name = weight_name.rsplit("/", 1)[-1].split(":", 1)[0].removeprefix(f"{layer}_")
    unnumbered = re.sub(r"_\d+$", "", name)
    if unnumbered in _VARIABLES:
        name = unnumbered
    return _RENAMED.get(name, name)


def unique_name(name: str, taken: Iterable[str]) -> str:
    """Returns a name that is not taken yet: the name itself, or the name with the first free number behind it.

    Args:
        name: Wanted name.
        taken: Names in use.

    Examples:
        >>> unique_name("kernel", ["kernel", "kernel_1", "bias"])
        'kernel_2'
    """
    taken = set(taken)
    number, candidate = 0, name
    while candidate in taken:
        number += 1
        candidate = f"{name}_{number}"
    return candidate


def read_names(group: h5py.Group, attribute: str) -> list[str] | None:
    """Reads a list of names from one attribute or, if long, from several (`attribute0`, `attribute1`, ...).

    Args:
        group: Group or file with the attribute.
        attribute: Name of the attribute.

    Returns:
        The names, or None if there is no such attribute.
    """
    numbered = (f"{attribute}{number}" for number in itertools.count())
    parts = [attribute] if attribute in group.attrs else list(itertools.takewhile(group.attrs.__contains__, numbered))
    if not parts:
        return None
    values = (value for part in parts for value in group.attrs[part])
    return [value.decode("utf-8") if isinstance(value, bytes) else str(value) for value in values]


def _write_names(group: h5py.Group, attribute: str, names: list[str]) -> None:
    """Stores a list of names as `read_names` and Keras read it."""
    values = np.array([name.encode("utf-8") for name in names], dtype="S" if names else "S1")
    chunks = -(-values.nbytes // _ATTRIBUTE_LIMIT)
    if chunks <= 1:
        group.attrs[attribute] = values
        return
    # A chunk more than the division says: rows are not split.
    for number, chunk in enumerate(np.array_split(values, chunks + 1)):
        group.attrs[f"{attribute}{number}"] = chunk
