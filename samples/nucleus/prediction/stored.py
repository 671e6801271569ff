"""Predictions that a folder of results keeps beside its files, so that an interrupted run can be resumed."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nucleus.models.base import Prediction
from nucleus.prediction.manifest import is_inside
from trainkit.files import atomic_path

SUFFIX = ".npz"
_DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, RecursionError),
    *(zipfile.BadZipFile, zlib.error, NotImplementedError),
)


@dataclass(frozen=True)
class Stored:
    """Record of a finished image.

    Attributes:
        about: File, content's SHA-256, size and time of change, and number of nuclei of the image.
        files: Result files of the image, relative to the folder of results.
        prediction: Nuclei of the image; None where they are not kept.
    """

    about: Mapping[str, Any]
    files: Sequence[str]
    prediction: Prediction | None


def write_stored(path: Path, stored: Stored) -> None:
    """Writes the record of a finished image, atomically.

    Args:
        path: File to write, ending in `.npz`.
        stored: The record.

    Raises:
        OSError: The file cannot be written.
    """
    found, arrays, scale = stored.prediction, {}, None
    if found is not None:
        arrays, scale = {"labels": found.labels, "scores": found.scores}, [found.scale, found.diameter]
    known = json.dumps({"about": dict(stored.about), "files": list(stored.files), "scale": scale})
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, about=np.frombuffer(known.encode(), np.uint8), **arrays)


def read_stored(path: Path, nuclei: bool = True) -> Stored | None:
    """Reads what is known of a finished image.

    Args:
        path: File that `write_stored` wrote.
        nuclei: False to leave out the prediction, which takes the most time.

    Returns:
        What is known; None where the file is missing or damaged, so that the image counts as not finished.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            known = json.loads(arrays["about"].tobytes())
            about, files = dict(known["about"]), list(known["files"])
            prediction = None
            if nuclei and "labels" in arrays:
                factor, diameter = known["scale"]
                prediction = Prediction(arrays["labels"], arrays["scores"])
                prediction = prediction.at_scale(float(factor), None if diameter is None else float(diameter))
    except _DAMAGED:
        return None
    if not all(map(is_inside, files)) or (prediction is not None and not _fits(prediction)):
        return None
    return Stored(about, files, prediction)


def _fits(prediction: Prediction) -> bool:
    labels, scores = prediction
    types = labels.dtype == np.int32 and labels.ndim == 2 and scores.dtype == np.float32 and scores.ndim == 1
    return types and labels.min(initial=0) == 0 and labels.max(initial=0) == len(scores)
