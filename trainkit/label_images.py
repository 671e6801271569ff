"""What every part does with label images: integer [H, W], 0 background, 1...N the instances."""

from __future__ import annotations

import numpy as np


def areas(labels: np.ndarray) -> np.ndarray:
    """Pixels of each label: int64 [N], N the highest label."""
    return np.bincount(labels.ravel(), minlength=1)[1:]


def relabel_sequential(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Closes the gaps in a label image's numbers and keeps their order.

    Args:
        labels: int [H, W], none negative.

    Returns:
        (int32 [H, W] with labels 1...N, int64 [N] kept): new label k + 1 was label kept[k] + 1, so that
        `scores[kept]` goes with the new labels.
    """
    return drop_small(labels, 1)


def drop_small(labels: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Removes what has too few pixels and closes the gaps in the numbers.

    Args:
        labels: int [H, W], none negative.
        least: Pixels that a label needs to stay; one at least.

    Returns:
        As `relabel_sequential`.
    """
    keep = np.bincount(labels.ravel(), minlength=1) >= max(least, 1)
    keep[0] = False
    new = np.cumsum(keep, dtype=np.int32) * keep
    return new[labels], np.flatnonzero(keep) - 1
