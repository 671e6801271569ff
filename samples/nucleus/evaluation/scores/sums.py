"""Base of all scores: sums over images, and quotients of such sums."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np


class Sums:
    """Base of the frozen dataclasses that hold an image's contributions to a score: numbers and arrays.

    `a + b` adds field by field; `sum(...)` over the images of a data set gives its pooled score.
    """

    def __add__(self, other: Any) -> Sums:
        """Adds the contributions of other images.

        Raises:
            ValueError: Arrays differ in shape, such as counts at different IoU thresholds.
        """
        if type(other) is not type(self):
            return NotImplemented
        totals = []
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if np.shape(mine) != np.shape(theirs):
                raise ValueError(
                    f"Only {type(self).__name__} of the same shapes can be added. "
                    f"Received: {field.name} {np.shape(mine)} and {np.shape(theirs)}"
                )
            totals.append(mine + theirs)
        return type(self)(*totals)

    def __radd__(self, other: Any) -> Sums:
        """Supports `sum`, which starts from 0."""
        return self if isinstance(other, int) and other == 0 else NotImplemented


def quotient(numerator: Any, denominator: Any, undefined: Any) -> Any:
    """Divides two numbers or arrays, with a given value for 0 / 0.

    Args:
        numerator: Number or array.
        denominator: Number or array, at least 0.
        undefined: Result where the denominator is 0.

    Returns:
        float for numbers, float64 array otherwise.
    """
    safe = np.where(denominator > 0, denominator, 1)
    result = np.where(denominator > 0, numerator / safe, undefined).astype(np.float64)
    return float(result) if result.ndim == 0 else result
