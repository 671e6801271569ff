"""Fingerprints of weights, the same from a Keras model and from a file of the same values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np


def weights_fingerprint(arrays: Iterable[np.ndarray]) -> str:
    """Returns "sha256:" and the SHA-256 of a network's weights.

    Args:
        arrays: Values of the weights in the model's order. Names do not count: those that Keras makes unique by
            numbers depend on what else a process has built.
    """
    digest = hashlib.sha256()
    for array in arrays:
        values = np.ascontiguousarray(array)
        digest.update(f"{values.dtype.name} {values.shape} ".encode() + values.tobytes())
    return f"sha256:{digest.hexdigest()}"
