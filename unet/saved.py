"""Saved U-Nets: `.keras` files, which are ZIP archives of a network and its weights, with the settings beside them."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import h5py
import keras
import numpy as np

from trainkit.hdf5_files import WeightsFileError, open_for_reading, require_plausible_size
from trainkit.reading import reading
from trainkit.settings import SettingsError
from unet.architecture import build_unet
from unet.config import UNetConfig

# Names in the archive: the settings, and what Keras writes.
_SETTINGS, _NETWORK, _WEIGHTS = "unet_settings.json", "config.json", "model.weights.h5"
# Filters in the settings may exceed the largest dimension of the file's arrays by this factor before a network of them
# is built: a damaged number would take all memory.
_MARGIN = 4

_WHAT = "no .keras file of a U-Net"

_Config = TypeVar("_Config", bound=UNetConfig)
# Shape and kind of the values of each array, with their numbers.
_Arrays = Counter[tuple[tuple[int, ...], str]]


def append_settings(path: str | os.PathLike, config: UNetConfig) -> None:
    """Adds the settings to a `.keras` file.

    Args:
        path: File that Keras wrote.
        config: Configuration of the network in it.

    Raises:
        OSError: The file cannot be written.
    """
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_SETTINGS, json.dumps(config.to_dict(), indent=1))


def read_settings(path: str | os.PathLike, config_class: type[_Config]) -> _Config:
    """Reads the configuration of a saved U-Net, without its network.

    Args:
        path: `.keras` file that `UNet.save` wrote.
        config_class: Class of the configuration that was saved.

    Returns:
        The configuration, without ENCODER_WEIGHTS.

    Raises:
        WeightsFileError: The file is missing or damaged, or holds no settings of that class.
    """
    with reading(path, _WHAT, WeightsFileError):
        return _configure(path, _read_members(path)[0], config_class)


def read_saved(
    path: str | os.PathLike, config_class: type[UNetConfig], config: UNetConfig | None = None
) -> tuple[UNetConfig, keras.Model]:
    """Reads a saved U-Net.

    The network is built from the settings, and the file's layers and weights must be those of that network. So a file
    decides about numbers only, not about what is computed with them.

    Args:
        path: `.keras` file that `UNet.save` wrote.
        config_class: Class of the configuration that was saved.
        config: Configuration that replaces the saved one, of the same network.

    Returns:
        The configuration, without ENCODER_WEIGHTS and for one device, and the network.

    Raises:
        WeightsFileError: The file is missing or damaged, or no U-Net's; or its settings, layers or weights do not fit
            each other, or a weight is NaN or infinite. The message names it.
    """
    with reading(path, _WHAT, WeightsFileError):
        settings, layers, weights = _read_members(path)
        saved = _configure(path, settings, config_class)
        config = saved if config is None else config
        with open_for_reading(path, weights) as file:
            stored = _arrays(file)
        _require_plausible_filters(config, stored)
        network = build_unet(config)
        _require_same_layers(network, layers)
        if stored != Counter((tuple(variable.shape), _kind(variable.dtype)) for variable in network.weights):
            raise ValueError("its weights are another network's than its settings say")
        _load(network, weights)
        return config, network


def _configure(path: str | os.PathLike, settings: dict[str, Any], config_class: type[_Config]) -> _Config:
    try:
        return config_class().update({**settings, "ENCODER_WEIGHTS": None, "GPU_COUNT": 1})
    except SettingsError as error:
        raise WeightsFileError(
            f"{path}: no settings of a {config_class.__name__}, so name the class that it was saved with "
            f"(config_class=...): {error}"
        ) from error


def _read_members(path: str | os.PathLike) -> tuple[dict[str, Any], list[tuple[str, str]], bytes]:
    """Reads the settings, the (class, name) of every layer and the file of the weights."""
    with zipfile.ZipFile(path) as archive:
        members = [archive.getinfo(name) for name in (_SETTINGS, _NETWORK, _WEIGHTS)]
        require_plausible_size(sum(member.file_size for member in members), os.path.getsize(path))
        settings, network, weights = (archive.read(member) for member in members)
    settings, network = json.loads(settings), json.loads(network)
    if not isinstance(settings, dict):
        raise ValueError("its settings are no object")
    layers = [(str(layer["class_name"]), str(layer["config"]["name"])) for layer in network["config"]["layers"]]
    return settings, layers, weights


def _arrays(file: h5py.File) -> _Arrays:
    """Counts the weights in an HDF5 file by shape and kind; states of random generators are none."""
    found: _Arrays = Counter()

    def count(name: str, member: h5py.Group | h5py.Dataset) -> None:
        if isinstance(member, h5py.Dataset) and "seed_generator" not in name:
            found[member.shape, _kind(member.dtype)] += 1

    file.visititems(count)
    return found


def _kind(dtype: str | np.dtype) -> str:
    """Returns NumPy's letter for a kind of values; bfloat16 counts as a float."""
    return "f" if dtype == "bfloat16" else np.dtype(dtype).kind


def _require_plausible_filters(config: UNetConfig, stored: _Arrays) -> None:
    largest = max((side for shape, _ in stored if shape for side in shape), default=0)
    own = config.ENCODER_FILTERS if config.ENCODER == "plain" else ()
    counts = (*own, *config.decoder_filters, config.IMAGE_SKIP_FILTERS, config.IMAGE_CHANNEL_COUNT)
    if max(counts) > _MARGIN * largest or len(counts) > _MARGIN + stored.total():
        raise ValueError(f"its settings ask for {max(counts)} filters, and its weights have {largest} at most")


def _require_same_layers(network: keras.Model, layers: Iterable[tuple[str, str]]) -> None:
    expected, found = [(type(layer).__name__, layer.name) for layer in network.layers], list(layers)
    if found != expected:
        pairs = zip([*found, ("end", "")], [*expected, ("end", "")], strict=False)
        other, own = next((pair for pair in pairs if pair[0] != pair[1]), (found[-1:], expected[-1:]))
        raise ValueError(f"its layer {' '.join(other)} is {' '.join(own)} in the network of its settings")


def _load(network: keras.Model, weights: bytes) -> None:
    """Loads weights in Keras's own layout, which Keras reads from files only."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _WEIGHTS
        file.write_bytes(weights)
        network.load_weights(file)
    for variable in network.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
            raise ValueError(f"{variable.path} has values that are NaN or infinite")
