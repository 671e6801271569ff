"""Images that are too large for memory, of which regions are read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from nucleus.images.decoding import NO_CHOICE, ImageFileError, OpenImage, Planes, RawImage, Region, naming, open_image
from nucleus.images.decoding.planes import Chosen
from nucleus.images.reading import to_rgb
from nucleus.images.tissue import is_glass
from trainkit.pixels import Scale, measure_scale

# Blocks of a subsample: their number down and across, and their side in pixels.
_BLOCKS, _BLOCK = 8, 256
# Ranks by contrast, 0 to 1, of the blocks of tissue around which regions are looked at, and the side of these.
_BUSY, _BUSY_SIDE = (0.7, 0.85, 0.55, 0.95, 0.4, 1.0), 1024
# A level is taken for a wanted scale that it misses by this part.
_TOLERANCE = 0.05
# Largest factor of the level that shows where tissue is.
_GLANCE = 8


class LazyImage:
    """An image whose regions are read when they are asked for.

    Samples of more than 8 bits are scaled as `nucleus.images.reading` says, by percentiles of one subsample of the
    image (64 blocks of 256 x 256 pixels on a regular grid), so that all regions have one scale.

    Args:
        image: The open image.
        path: File of the image, for messages.
        planes: Choice of channel, plane and frame.
        level: Level of a pyramid, 0 for the largest; None if none was chosen: the largest is read, and
            `nucleus.predict_large` chooses the one that fits the model.
        pixel_size: Side of a pixel of the largest level in µm; None for what the file says.

    Attributes:
        path: The file.
        level: The level that is read.
        chosen: True if the level was chosen.
        levels: Height and width of every level, largest first.
        shape: (height, width, 3) of the level.
        dtype: uint8.
        channels: Names of the channels that are read.
        downsampling: Factor by which the level is smaller than the image.
        pixel_size: Side of a pixel of the level in µm; None where it is not known.

    Raises:
        ImageFileError: The choice does not fit the image, or there is no such level.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        image: OpenImage,
        path: Path,
        planes: Planes = NO_CHOICE,
        level: int | None = None,
        pixel_size: float | None = None,
    ) -> None:
        self.path, self.planes, self.level, self.chosen = path, planes, level or 0, level is not None
        self._image = image
        self.levels = tuple(image.levels)
        if not 0 <= self.level < len(self.levels):
            raise ImageFileError(f"there is no level {level} of the pyramid; it has {len(self.levels)}")
        chosen: Chosen = planes.choose(image.frames, image.planes, image.channels, image.colour)
        self.channels = tuple(image.channels[index] for index in chosen.channels)
        self.shape = (*self.levels[self.level], 3)
        self.downsampling = image.shape[0] / self.shape[0]
        self._full_size = image.pixel_size() if pixel_size is None else pixel_size
        self.pixel_size = None if self._full_size is None else self._full_size * self.downsampling

    def at_level(self, level: int) -> LazyImage:
        """Returns the image at another level of its pyramid; both are closed together.

        Args:
            level: Level, 0 for the largest.
        """
        return LazyImage(self._image, self.path, self.planes, level, self._full_size)

    def __enter__(self) -> LazyImage:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._image.close()

    def region(self, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Reads a region.

        Args:
            y0: First row.
            y1: Row behind the last one.
            x0: First column.
            x1: Column behind the last one.

        Returns:
            uint8 `[y1 - y0, x1 - x0, 3]` RGB.

        Raises:
            ImageFileError: The file is damaged there.
            ValueError: The region does not lie in the image.
        """
        height, width, _ = self.shape
        if not (0 <= y0 < y1 <= height and 0 <= x0 < x1 <= width):
            raise ValueError(f"Expected a region in {height} x {width} pixels. Received: {(y0, y1, x0, x1)}")
        return np.ascontiguousarray(to_rgb(self._samples(Region(y0, y1, x0, x1), self.level), self._scale))

    @property
    def regional(self) -> bool:
        """True if a region can be read without decoding the whole image."""
        return self._image.regional

    def raw(self, y0: int, y1: int, x0: int, x1: int) -> RawImage:
        """Reads the samples of a region as they are stored, of all channels, for measurements; see `region`."""
        with naming(self.path):
            raw = self._image.read(self.planes, every_channel=True, region=Region(y0, y1, x0, x1), level=self.level)
        return raw._replace(pixel_size=self.pixel_size)

    def sample(self) -> np.ndarray:
        """Reads a subsample for what depends on the whole image: blocks of a regular grid, joined to one image.

        Returns:
            uint8 `[H, W, 3]` RGB; the whole image where that is no larger.
        """
        return np.ascontiguousarray(to_rgb(self._subsample(), self._scale))

    def tissue(self) -> Iterator[np.ndarray]:
        """Reads regions in which nuclei are likely, one after the other, those with usual contrast first.

        Of the blocks of the subsample, without empty glass (`nucleus.images.tissue`), those at a few ranks by contrast
        are taken, the first one that whose contrast three tenths of the others exceed. A region lies around each.

        Yields:
            uint8 `[H, W, 3]` RGB of up to 1024 x 1024 pixels; the image itself if it is not larger than 2048 x 2048.
        """
        height, width, _ = self.shape
        places = [(down[0], across[0]) for down in _grid(height) for across in _grid(width)]
        if len(places) == 1:
            yield self.region(0, height, 0, width)
            return
        blocks = (self.region(y, min(y + _BLOCK, height), x, min(x + _BLOCK, width)) for y, x in places)
        seen = [(is_glass(block), float(block[::4, ::4].std())) for block in blocks]
        found = [number for number, (glass, _) in enumerate(seen) if not glass] or range(len(places))
        ranks = sorted(found, key=lambda number: seen[number][1])
        for number in dict.fromkeys(ranks[round(share * (len(ranks) - 1))] for share in _BUSY):
            y0, x0 = (
                max(0, min(at + (_BLOCK - _BUSY_SIDE) // 2, length - _BUSY_SIDE))
                for at, length in zip(places[number], (height, width), strict=True)
            )
            yield self.region(y0, min(y0 + _BUSY_SIDE, height), x0, min(x0 + _BUSY_SIDE, width))

    def glance(self, y0: int, y1: int, x0: int, x1: int) -> tuple[np.ndarray, float] | None:
        """Reads a region at a smaller level of the pyramid.

        Args:
            y0: First row.
            y1: Row behind the last one.
            x0: First column.
            x1: Column behind the last one.

        Returns:
            uint8 RGB of the region or a little more, and the factor by which it is smaller; None where no level is
            smaller by a factor of up to 8.
        """
        height, width, _ = self.shape
        factors = [(height / size[0], level) for level, size in enumerate(self._image.levels) if level > self.level]
        factor, level = max(((factor, level) for factor, level in factors if 1 < factor <= _GLANCE), default=(1, 0))
        if factor == 1:
            return None
        rows, columns = self._image.levels[level]
        down, across = height / rows, width / columns
        around = Region(
            int(y0 / down), min(rows, -int(-y1 // down)), int(x0 / across), min(columns, -int(-x1 // across))
        )
        return np.ascontiguousarray(to_rgb(self._samples(around, level), self._scale)), factor

    @cached_property
    def _scale(self) -> Scale | None:
        return None if self._image.dtype in (np.uint8, bool) else measure_scale(self._subsample())

    def _subsample(self) -> np.ndarray:
        height, width, _ = self.shape
        rows, columns = _grid(height), _grid(width)
        return np.concatenate(
            [
                np.concatenate([self._samples(Region(*down, *across), self.level) for across in columns], axis=1)
                for down in rows
            ]
        )

    def _samples(self, region: Region, level: int) -> np.ndarray:
        with naming(self.path):
            return self._image.read(self.planes, region=region, level=level).visible()


def open_lazy(
    path: str | os.PathLike, planes: Planes = NO_CHOICE, level: int | None = None, pixel_size: float | None = None
) -> LazyImage:
    """Opens an image file of which regions are read.

    Args:
        path: A tiled or stripped TIFF or BigTIFF, an OME-Zarr folder, a whole slide, or a file of a microscope. Other
            files are decoded at once.
        planes: Choice of channel, plane, frame and scene.
        level: Level of a pyramid, 0 for the largest. None: the largest is read, and `nucleus.predict_large` chooses the
            one that fits the model.
        pixel_size: Side of a pixel of the largest level in µm; None for what the file says.

    Raises:
        ImageFileError: The file cannot be read, or the choice does not fit it.

    Examples:
        >>> from nucleus.datasets.dataset import shipped_data
        >>> path = next(shipped_data().glob("stage1_train/*/images/*.png"))
        >>> with open_lazy(path) as image:
        ...     image.region(0, 20, 10, 40).shape
        (20, 30, 3)
    """
    with naming(Path(path)):
        image = open_image(Path(path), "image", planes)
        try:
            return LazyImage(image, Path(path), planes, level, pixel_size)
        except Exception:
            image.close()
            raise


def choose_level(levels: Sequence[tuple[int, int]], downsampling: float) -> int:
    """Chooses the level of a pyramid to read for a wanted scale: the smallest that is not coarser by more than 5 %.

    Args:
        levels: (height, width) of every level, largest first.
        downsampling: Wanted factor by which the largest level is to be made smaller, above 0. For a wanted pixel size,
            its quotient and that of the largest level.

    Returns:
        The level, 0 for the largest.

    Examples:
        >>> choose_level([(4000, 4000), (2000, 2000), (500, 500)], downsampling=3)
        1
    """
    factors = [levels[0][0] / height for height, _ in levels]
    fitting = [level for level, factor in enumerate(factors) if factor <= downsampling * (1 + _TOLERANCE)]
    return max(fitting, key=lambda level: factors[level], default=0)


def _grid(length: int) -> list[tuple[int, int]]:
    """Returns the parts of an axis that a subsample takes: (first, last + 1)."""
    if length <= _BLOCKS * _BLOCK:
        return [(0, length)]
    starts = np.linspace(0, length - _BLOCK, _BLOCKS).round().astype(int).tolist()
    return [(start, start + _BLOCK) for start in starts]
