"""Bounded groups of images, which share network batches without filling the memory."""

from __future__ import annotations

from collections.abc import Sequence


def bounded(pixels: Sequence[int], images: int, limit: int) -> list[list[int]]:
    """Divides images into groups of consecutive ones.

    Args:
        pixels: Number of pixels of every image.
        images: Most images of a group, 1 or more.
        limit: Most pixels of a group; a larger image is a group by itself.

    Returns:
        Positions of the images of every group.

    Examples:
        >>> bounded([10, 10, 10, 500, 10], images=2, limit=100)
        [[0, 1], [2], [3], [4]]
    """
    groups: list[list[int]] = []
    held = 0
    for index, count in enumerate(pixels):
        if not groups or len(groups[-1]) == images or held + count > limit:
            groups.append([])
            held = 0
        groups[-1].append(index)
        held += count
    return groups
