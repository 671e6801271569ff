"""Arrays with stated axes as images: in memory, or lazy ones such as those of dask and zarr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nucleus.images.decoding.base import ImageFileError, check_limit, check_size
from nucleus.images.decoding.opened import OpenImage, Region, pick
from nucleus.images.decoding.planes import COLOURS

# Frames, planes, channels, rows, columns, and the red, green and blue samples of a colour image.
AXES = "TZCYXS"


class ArrayImage(OpenImage):
    """An array as an image.

    Args:
        levels: Arrays of the levels of a pyramid, largest first; one for an image that is no pyramid. They are read by
            `level[index]` with whole numbers and slices, and by `numpy.asarray` of the result.
        axes: An axis of `AXES` for every dimension, each once; Y and X are needed.
        channels: Names of the channels; by default none has one, and those of S are red, green and blue.
        colour: True if the channels are a colour image; by default that of an axis S.
        pixel_size: Side of a pixel in µm; None where it is not known.
        source: Format of the file that the arrays are read from when they are indexed, so that a region is read by
            itself; empty for arrays in memory.

    Attributes:
        axes: Axis of every dimension.

    Raises:
        ImageFileError: The axes do not fit, or the image has no pixels.
    """

    def __init__(
        self,
        levels: Sequence[Any],
        axes: str,
        channels: Sequence[str] | None = None,
        colour: bool | None = None,
        pixel_size: float | None = None,
        source: str = "",
    ) -> None:
        first, self.axes, self._arrays = levels[0], axes, levels
        shape = tuple(first.shape)
        if (
            len(set(axes)) != len(axes)
            or set(axes) - set(AXES)
            or not {"Y", "X"} <= set(axes)
            or len(axes) != len(shape)
        ):
            raise ImageFileError(
                f"expected axes for each dimension, each once, of {', '.join(AXES)} with Y and X. "
                f"Received: axes {axes!r} of shape {shape}"
            )
        sizes = dict(zip(axes, shape, strict=True))
        self.shape, self.dtype = (sizes["Y"], sizes["X"]), np.dtype(first.dtype)
        check_size(*self.shape)
        if 0 in shape:
            raise ImageFileError(f"the image has no pixels (shape {shape})")
        self.frames, self.planes = sizes.get("T", 1), sizes.get("Z", 1)
        if "S" in sizes and (sizes.get("C", 1) > 1 or sizes["S"] not in (3, 4)):
            raise ImageFileError(
                f"expected 3 or 4 samples of colour (S) and no channels (C) beside them. Received: axes {axes!r} of "
                f"shape {shape}"
            )
        self._inner = "S" if "S" in sizes else "C"
        count = 3 if "S" in sizes else sizes.get("C", 1)
        names = channels if channels is not None else COLOURS if "S" in sizes else ("",) * count
        self.channels = tuple(names) if len(names) == count else ("",) * count
        self.colour = "S" in sizes if colour is None else colour
        self._pixel_size, self._source = pixel_size, source

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Height and width of every level of a pyramid, largest first."""
        at = [self.axes.index(axis) for axis in "YX"]
        return tuple(tuple(int(level.shape[i]) for i in at) for level in self._arrays)

    @property
    def regional(self) -> bool:
        """True if a region can be read without decoding the whole image."""
        return bool(self._source)

    def pixel_size(self) -> float | None:
        """Returns the side of a pixel in µm; None where it is not known."""
        return self._pixel_size

    def read_page(
        self, frame: int, plane: int, channels: Sequence[int], region: Region | None = None, level: int = 0
    ) -> np.ndarray:
        """Reads channels of one plane; see `OpenImage.read_page`."""
        if self._source and region is None:
            check_limit(*self.levels[level])
        region = region or Region(0, self.levels[level][0], 0, self.levels[level][1])
        rows, columns = slice(region.y0, region.y1), slice(region.x0, region.x1)
        # A lazy array decodes what is asked for: one channel is read by itself.
        one = 0 if self._inner == "S" else channels[0] if len(channels) == 1 else slice(None)
        places = {"T": frame, "Z": plane, "Y": rows, "X": columns, "C": one, "S": slice(None)}
        pixels = self._pixels(level, tuple(places[axis] for axis in self.axes))
        kept = [axis for axis in self.axes if isinstance(places[axis], slice)]
        pixels = pixels.transpose([kept.index(axis) for axis in ("Y", "X", self._inner) if axis in kept])
        if self._inner == "C" and not isinstance(one, slice):
            return pixels[..., None]
        pixels = pixels.reshape(*pixels.shape[:2], -1)[..., : len(self.channels)]
        return pick(pixels, channels)

    def _pixels(self, level: int, index: tuple[int | slice, ...]) -> np.ndarray:
        """Reads a part of a level; damage of a file shows only now, in errors of many kinds."""
        try:
            return np.asarray(self._arrays[level][index])
        except (ImageFileError, MemoryError):
            raise
        except Exception as error:
            if not self._source:
                raise
            cause = f"{type(error).__name__}: {error}"
            raise ImageFileError(
                f"the {self._source} is truncated, incomplete or damaged, or its reader does not know what it holds "
                f"({cause})"
            ) from error
