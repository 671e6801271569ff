"""Weights of an ONNX file that holds the graph alone: they stay in the weights file (`.h5`) beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from trainkit.hdf5_files import WeightsFileError, open_for_reading

# Name in the metadata of an ONNX file without weights.
LAYOUT_NOTE = "keras_nucleus_weights_layout"
WEIGHTS_SUFFIX = ".h5"


class Place(NamedTuple):
    """Place of one array of the weights.

    Attributes:
        initializer: Name in the graph.
        dataset: Path in the weights file.
        shape: Shape of the array.
    """

    initializer: str
    dataset: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class WeightsLayout:
    """Places of a network's weights in a weights file of its architecture, whatever their values.

    Attributes:
        places: One place for each array, in the order of the Keras model.
    """

    places: Sequence[Place]

    def to_note(self) -> str:
        """Returns the text for the metadata of an ONNX file."""
        return json.dumps(self.places)

    @classmethod
    def from_notes(cls, notes: Mapping[str, str]) -> WeightsLayout | None:
        """Returns the layout in the metadata of an ONNX file; None where the file holds the weights itself.

        Args:
            notes: Name -> text of the metadata.

        Raises:
            ValueError: The text is no layout.
        """
        if LAYOUT_NOTE not in notes:
            return None
        try:
            places = [Place(*place) for place in json.loads(notes[LAYOUT_NOTE])]
        except TypeError as error:
            raise ValueError(f"{LAYOUT_NOTE} is no list of places ({error})") from error
        return cls([place._replace(shape=tuple(place.shape)) for place in places])

    def check(self, weights: str | os.PathLike) -> None:
        """Makes sure that a weights file has an array of the right shape at every place.

        Args:
            weights: The weights file.

        Raises:
            WeightsFileError: The file is missing or damaged, or holds another network.
        """
        with open_for_reading(weights) as file:
            for place in self.places:
                _find(file, place, weights)

    def read(self, weights: str | os.PathLike) -> dict[str, np.ndarray]:
        """Reads the weights.

        Args:
            weights: The weights file.

        Returns:
            Name in the graph -> float32 array, in the order of the Keras model.

        Raises:
            WeightsFileError: The file is missing or damaged, holds another network, or values that are not finite.
        """
        arrays = {}
        with open_for_reading(weights) as file:
            for place in self.places:
                array = _find(file, place, weights)[()].astype(np.float32)
                if not np.isfinite(array).all():
                    raise WeightsFileError(f"{weights}: {place.dataset} has values that are NaN or infinite")
                arrays[place.initializer] = array
        return arrays


def weights_beside(path: str | os.PathLike) -> Path:
    """Returns the weights file that an ONNX file without weights reads: the one of the same name beside it.

    Args:
        path: The ONNX file.
    """
    return Path(path).with_suffix(WEIGHTS_SUFFIX)


def _find(file: h5py.File, place: Place, weights: str | os.PathLike) -> h5py.Dataset:
    """Returns the array at a place, unread."""
    found = file.get(place.dataset)
    is_array = isinstance(found, h5py.Dataset) and found.dtype.kind == "f"
    if not is_array or found.shape != place.shape:
        received = f"{found.dtype}, {found.shape}" if isinstance(found, h5py.Dataset) else "nothing of that name"
        raise WeightsFileError(
            f"{weights}: holds another network than the graph beside it: expected numbers of the shape {place.shape} "
            f"at {place.dataset}. Received: {received}"
        )
    return found
