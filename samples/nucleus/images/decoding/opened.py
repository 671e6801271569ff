"""An open image of any format: what it holds, and the reading of what is chosen of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple

import numpy as np

from nucleus.images.decoding.base import RawImage
from nucleus.images.decoding.planes import Planes, project


class Region(NamedTuple):
    """A part of an image in pixels; `y1` and `x1` are exclusive."""

    y0: int
    y1: int
    x0: int
    x1: int


class OpenImage(ABC):
    """An open image with its axes in order: frames, planes, rows, columns, channels.

    Attributes:
        shape: (height, width) in pixels.
        dtype: Type of the samples.
        frames: Number of frames.
        planes: Number of planes.
        channels: Names of the channels, "" for one without a name.
        colour: True if the channels together are a colour image.
        levels: Height and width of every level of a pyramid, largest first; the image itself where there is none.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    frames: int = 1
    planes: int = 1
    channels: tuple[str, ...] = ("",)
    colour: bool = False

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Height and width of every level of a pyramid, largest first."""
        return (self.shape,)

    @property
    def regional(self) -> bool:
        """True if a region can be read without decoding the whole image."""
        return False

    @abstractmethod
    def read_page(
        self, frame: int, plane: int, channels: Sequence[int], region: Region | None = None, level: int = 0
    ) -> np.ndarray:
        """Reads channels of one plane.

        Args:
            frame: Index of the frame.
            plane: Index of the plane.
            channels: Indices of the channels.
            region: Part of the level to read; None for all of it.
            level: Level of the pyramid.

        Returns:
            `[H, W, C]` of the image's sample type.
        """

    def pixel_size(self) -> float | None:
        """Returns the side of a pixel in µm; None where it is not known."""
        return None

    def close(self) -> None:  # noqa: B027 - an image in memory has nothing to close.
        """Closes the file."""

    def __enter__(self) -> OpenImage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(
        self, planes: Planes, every_channel: bool = False, region: Region | None = None, level: int = 0
    ) -> RawImage:
        """Reads what is chosen.

        Args:
            planes: Choice of channel, plane and frame.
            every_channel: Reads all channels, also those that are not chosen, and the pixel size.
            region: Part of the level to read; None for all of it.
            level: Level of the pyramid.

        Raises:
            ImageFileError: The choice does not fit, or leaves open what is meant.
        """
        chosen = planes.choose(self.frames, self.planes, self.channels, self.colour)
        wanted = tuple(range(len(self.channels))) if every_channel else chosen.channels
        pages = (self.read_page(chosen.frame, plane, wanted, region, level) for plane in chosen.planes)
        pixels = next(pages) if planes.project is None else project(pages, planes.project)
        shown = chosen.channels if every_channel else tuple(range(len(wanted)))
        size = self.pixel_size() if every_channel else None
        return RawImage(pixels, tuple(self.channels[index] for index in wanted), shown, size)


def pick(pixels: np.ndarray, channels: Sequence[int], region: Region | None = None) -> np.ndarray:
    """Returns channels and a region of an image, without a copy where all channels are taken.

    Args:
        pixels: `[H, W]` or `[H, W, C]`.
        channels: Indices of the channels.
        region: The region; None for the whole.
    """
    if region is not None:
        pixels = pixels[region.y0 : region.y1, region.x0 : region.x1]
    pixels = pixels.reshape(*pixels.shape[:2], -1)
    return pixels if list(channels) == list(range(pixels.shape[2])) else pixels[..., list(channels)]
