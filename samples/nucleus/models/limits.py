"""Limits on the number and size of nuclei: how a model reports that it may have found only part of them.

A model reports every limit that it reaches, whatever wraps the model, with the position of the image among those that
it was given. The report goes to the innermost `watch_limits` around the call, such as that of the tiles, which then
divide the image; outside of any, it is logged as a warning.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

logger = logging.getLogger(__name__)


# Setting that limits not the nuclei, but the places at which a network looks for them.
PROPOSALS = "POST_NMS_ROIS_INFERENCE"


class Limit(NamedTuple):
    """Limit of a model's predictions.

    Attributes:
        setting: Name of the setting.
        value: Number of nuclei, or of proposals, that it allows.
        shape: (height, width) in pixels of the image, or the part of it, whose nuclei reached the limit.
        index: Position of the image among those of the call.
    """

    setting: str
    value: int
    shape: tuple[int, int]
    index: int = 0

    def __str__(self) -> str:
        height, width = self.shape
        where = f"in {width} x {height} pixels"
        reached = f"nuclei were found {where}, which is the limit"
        if self.setting == PROPOSALS:
            reached = f"proposals were looked at {where}, few for the nuclei that were found"
        return (
            f"{self.setting}={self.value} {reached}. There may be more: raise {self.setting}, or let TILE_SIZE divide "
            "the image."
        )


class UnknownSize(NamedTuple):
    """Nuclei of a size, at the scale at which the model was shown them, that it did not learn.

    Attributes:
        diameter: Diameter of the nuclei in pixels of the image; see `nucleus.models.scale.median_diameter`.
        factor: Factor of height and width at which the model was shown the image.
        known: Least and largest diameter in pixels of the nuclei that the model knows, at the scale it is shown.
        index: Position of the image among those of the call.
    """

    diameter: float
    factor: float
    known: tuple[float, float]
    index: int = 0

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


def unknown_size(known: Sequence[float], diameter: float | None, factor: float) -> UnknownSize | None:
    """Returns nuclei of a size that a model did not learn; None where the size is among those or not known.

    Args:
        known: Least, typical and largest diameter in pixels that the model knows; empty if that is unknown.
        diameter: Diameter of the nuclei in pixels of the image.
        factor: Factor of height and width at which the model is shown the image.
    """
    if not len(known) or not diameter or known[0] <= diameter * factor <= known[2]:
        return None
    return UnknownSize(diameter, factor, (known[0], known[2]))


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
def limits_of(positions: Sequence[int]) -> Iterator[None]:
    """Reports the limits that are reached inside a block as those of a larger call, of which it predicts some images.

    Args:
        positions: Position of every image of the block among the images of the larger call.
    """
    with watch_limits() as reached:
        yield
    for limit in reached:
        report_limit(limit._replace(index=positions[limit.index]))


@contextmanager
def warn_of_limits(*names: str) -> Iterator[None]:
    """Logs one warning per image and setting for the limits that are reached inside a block.

    Args:
        *names: Names of the images of the block's call in their order, for the messages.
    """
    with watch_limits() as reached:
        yield
    log_limits(reached, names)


def log_limits(reached: Iterable[Limit | UnknownSize], names: Sequence[str]) -> None:
    """Logs one warning per image and setting.

    Args:
        reached: The limits.
        names: Names of the images of the call that reached them, in their order.
    """
    for limit in {(limit.index, limit.setting): limit for limit in reached}.values():
        logger.warning("%s: %s", names[limit.index], limit)
