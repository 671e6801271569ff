"""Limits on the number and size of nuclei: how a model reports that it may have found only part of them.

A model reports every limit that it reaches, whatever wraps the model. The report goes to the innermost `watch_limits`
around the call, such as that of the tiles, which then divide the image; outside of any, it is logged as a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

logger = logging.getLogger(__name__)


class Limit(NamedTuple):
    """Limit of a model's predictions.

    Attributes:
        setting: Name of the setting.
        value: Number of nuclei that it allows.
        shape: (height, width) in pixels of the image, or the part of it, whose nuclei reached the limit.
    """

    setting: str
    value: int
    shape: tuple[int, int]

    def __str__(self) -> str:
        height, width = self.shape
        return (
            f"{self.setting}={self.value} nuclei were found in {width} x {height} pixels, which is the limit. There "
            f"may be more: raise {self.setting}, or let TILE_SIZE divide the image."
        )


class UnknownSize(NamedTuple):
    """Nuclei of a size, at the scale at which the model was shown them, that it did not learn.

    Attributes:
        diameter: Diameter of the nuclei in pixels of the image; see `nucleus.models.scale.median_diameter`.
        factor: Factor of height and width at which the model was shown the image.
        known: Least and largest diameter in pixels of the nuclei that the model knows, at the scale it is shown.
    """

    diameter: float
    factor: float
    known: tuple[float, float]

    @property
    def setting(self) -> str:
        """Name of the setting."""
        return "KNOWN_DIAMETERS"

    def __str__(self) -> str:
        least, largest = self.known
        return (
            f"nuclei of about {self.diameter:.1f} pixels across, shown to the model at {self.factor:g} times their "
            f"size, are outside of what it learned ({least:g} to {largest:g} pixels). They may be missed or divided: "
            "look at the overlay, and set the scale (--scale, --diameter) or take an image of another magnification."
        )


_reached: ContextVar[list[Limit | UnknownSize] | None] = ContextVar("reached", default=None)


def report_limit(limit: Limit | UnknownSize) -> None:
    """Reports a limit to the innermost `watch_limits`; outside of any, logs a warning.

    Args:
        limit: The limit that was reached.
    """
    reached = _reached.get()
    if reached is None:
        logger.warning("An image: %s", limit)
    else:
        reached.append(limit)


@contextmanager
def watch_limits() -> Iterator[list[Limit | UnknownSize]]:
    """Collects the limits that are reached inside a block, in a list that grows meanwhile."""
    reached: list[Limit | UnknownSize] = []
    token = _reached.set(reached)
    try:
        yield reached
    finally:
        _reached.reset(token)


@contextmanager
def warn_of_limits(name: str) -> Iterator[None]:
    """Logs one warning per setting for the limits that are reached inside a block.

    Args:
        name: Name of the image, for the message.
    """
    with watch_limits() as reached:
        yield
    for limit in {limit.setting: limit for limit in reached}.values():
        logger.warning("%s: %s", name, limit)
