"""Whole slides (SVS, NDPI, MRXS and others), read by OpenSlide, which the extra `slides` installs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tifffile

from nucleus.images.decoding.base import ImageFileError, Meaning, check_limit
from nucleus.images.decoding.metadata import SQUARE_WITHIN
from nucleus.images.decoding.opened import OpenImage, Region, pick
from nucleus.images.decoding.planes import COLOURS, Planes

_MIRAX = ".mrxs"


def find_slide(path: Path, is_tiff: bool) -> str | None:
    """Returns the name of a slide's format; None for another file.

    A MIRAX file is a JPEG, with the slide in a folder beside it: it is recognised by its name. All others are TIFFs.

    Args:
        path: The file.
        is_tiff: True if it begins as a TIFF does.
    """
    if path.suffix.lower() == _MIRAX:
        return "MRXS"
    if not is_tiff:
        return None
    try:
        with tifffile.TiffFile(path) as file:
            vendors = {
                "SVS": file.is_svs,
                "NDPI": file.is_ndpi,
                "SCN": file.is_scn,
                "BIF": file.is_bif,
                "Philips TIFF": file.is_philips,
            }
    except Exception:  # A damaged TIFF, which the reader of TIFFs names.
        return None
    return next((name for name, found in vendors.items() if found), None)


class SlideImage(OpenImage):
    """An open whole slide. Where it was not scanned, it is white, or of the colour that the file states.

    Args:
        path: The file.
        name: Format of the file, for messages.
        meaning: Use of the pixels.
        planes: Choice of the scene: there is one.

    Raises:
        ImageFileError: OpenSlide is missing, or the file cannot be read.
    """

    channels = COLOURS
    colour = True
    dtype = np.dtype(np.uint8)

    def __init__(self, path: Path, name: str, meaning: Meaning, planes: Planes) -> None:
        if meaning != "image":
            raise ImageFileError(f"a {name} slide is an image, no labels: save labels as PNG or TIFF")
        try:
            import openslide
        except ImportError as error:
            advice = "Install what reads it: pip install 'keras-nucleus[slides]'"
            raise ImageFileError(f"is a whole slide ({name}). {advice} ({error})") from error
        self._name = name
        try:
            self._slide = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise self._damaged(error) from error
        self._error = openslide.OpenSlideError
        planes.choose_scene([""])
        self._levels = tuple((height, width) for width, height in self._slide.level_dimensions)
        self.shape = self._levels[0]
        background = self._slide.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "ffffff")
        self._background = np.array([int(background[at : at + 2], 16) for at in (0, 2, 4)], np.float32)
        self._sides = [
            self._slide.properties.get(name, "")
            for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
        ]

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Height and width of every level of the pyramid, largest first."""
        return self._levels

    @property
    def regional(self) -> bool:
        """True: slides are read by regions."""
        return True

    def close(self) -> None:
        """Closes the file."""
        self._slide.close()

    def pixel_size(self) -> float | None:
        """Returns the side of a pixel in µm; None where it is not known or pixels are not square to 1 %."""
        try:
            x, y = (float(side) for side in self._sides)
        except ValueError:
            return None
        if not (math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0):
            return None
        return math.sqrt(x * y) if abs(x - y) <= SQUARE_WITHIN * min(x, y) else None

    def read_page(
        self, frame: int, plane: int, channels: Sequence[int], region: Region | None = None, level: int = 0
    ) -> np.ndarray:
        """Reads a region; see `OpenImage.read_page`."""
        height, width = self._levels[level]
        if region is None:
            check_limit(height, width)
            region = Region(0, height, 0, width)
        # OpenSlide counts places in pixels of the largest level.
        corner = (round(region.x0 * self.shape[1] / width), round(region.y0 * self.shape[0] / height))
        try:
            found = self._slide.read_region(corner, level, (region.x1 - region.x0, region.y1 - region.y0))
        except self._error as error:
            raise self._damaged(error) from error
        pixels = np.asarray(found)
        shown = np.ascontiguousarray(pixels[..., :3])
        clear = pixels[..., 3] < 255
        if clear.any():
            opaque = pixels[clear][:, 3:].astype(np.float32) / 255
            shown[clear] = np.rint(shown[clear] * opaque + self._background * (1 - opaque))
        return pick(shown, channels)

    def _damaged(self, error: Exception) -> ImageFileError:
        return ImageFileError(f"the {self._name} slide is truncated, damaged or not supported ({error})")
