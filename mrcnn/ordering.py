"""Ordering by score, the same on every backend."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def top_k(values: Any, count: int) -> tuple[Any, Any]:
    """Selects the largest values of the last axis in descending order; of equal ones the earlier comes first.

    PyTorch's own top-k leaves the order of equal values open, and scores of a confident network are often exactly 1.

    Args:
        values: `[..., N]`.
        count: Number of values to select, at most N.

    Returns:
        Values `[..., count]` and their indices `[..., count]`.
    """
    if keras.backend.backend() != "torch":
        return ops.top_k(values, count)
    import torch

    ordered, indices = torch.sort(values, dim=-1, descending=True, stable=True)
    return ordered[..., :count], indices[..., :count]
