"""Operations on label images: integer [H, W], 0 background, 1...N one instance each."""

from __future__ import annotations

import numpy as np


def areas(labels: np.ndarray) -> np.ndarray:
    """Counts the pixels of each label.

    Args:
        labels: Label image, integer [H, W], not negative.

    Returns:
        int64 [N], N the highest label: value k belongs to label k + 1.

    Examples:
        >>> areas(np.array([[1, 1, 0], [3, 0, 0]])).tolist()
        [2, 0, 1]
    """
    return np.bincount(labels.ravel(), minlength=1)[1:]


def relabel_sequential(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Closes the gaps in a label image's numbers and keeps their order.

    Args:
        labels: Label image, integer [H, W], not negative.

    Returns:
        (labels int32 [H, W] with 1...N, kept int64 [N]): new label k + 1 was label kept[k] + 1, so that
        `scores[kept]` belongs to the new labels.

    Examples:
        >>> labels, kept = relabel_sequential(np.array([[5, 0, 2], [5, 5, 2]]))
        >>> labels.tolist(), kept.tolist()
        ([[2, 0, 1], [2, 2, 1]], [1, 4])
    """
    return drop_small(labels, 1)


def drop_small(labels: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Removes instances with too few pixels and closes the gaps in the numbers.

    Args:
        labels: Label image, integer [H, W], not negative.
        least: Least area in pixels that stays; 0 is 1.

    Returns:
        (labels int32 [H, W] with 1...N, kept int64 [N]): new label k + 1 was label kept[k] + 1.

    Examples:
        >>> labels, kept = drop_small(np.array([[1, 0, 2], [0, 2, 2]]), least=2)
        >>> labels.tolist(), kept.tolist()
        ([[0, 0, 1], [0, 1, 1]], [1])
    """
    keep = np.bincount(labels.ravel(), minlength=1) >= max(least, 1)
    keep[0] = False
    new = np.cumsum(keep, dtype=np.int32) * keep
    return new[labels], np.flatnonzero(keep) - 1
