"""Decoding of TIFF files: which pages are the frames, planes, channels, scenes and pyramid levels of an image."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import numpy as np
import tifffile

from nucleus.images.decoding.base import ImageFileError, Meaning, check_limit, check_size
from nucleus.images.decoding.metadata import channel_names, pixel_size, scene_names
from nucleus.images.decoding.opened import OpenImage, Region, pick
from nucleus.images.decoding.planes import COLOURS, Planes
from nucleus.images.decoding.tiff_pages import MIN_IS_BLACK, MIN_IS_WHITE, PALETTE, STORED, PageReader

_log = logging.getLogger(__name__)
SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_LOSSY_COMPRESSIONS = (6, 7)
_ALPHA = (1, 2)
# Axes that metadata name, and those of a plain sequence of pages, whose meaning nobody states.
_FRAMES, _PLANES, _CHANNELS, _UNNAMED = "T", "Z", "C", "IQ"


class TiffImage(OpenImage):
    """An open TIFF.

    Args:
        path: The file.
        meaning: Use of the pixels.
        planes: Choice of what is read, which decides what pages without a stated meaning are.
    """

    def __init__(self, path: Path, meaning: Meaning, planes: Planes) -> None:
        with _naming_damage():
            self.file = tifffile.TiffFile(path)
        try:
            with _naming_damage():
                self._open(meaning, planes)
        except Exception:
            self.file.close()
            raise

    def _open(self, meaning: Meaning, planes: Planes) -> None:
        self.meaning = meaning
        stated = self.file.is_ome or self.file.is_imagej
        check_size(self.file.pages[0].imagelength, self.file.pages[0].imagewidth)
        self._check_chain()
        names = scene_names(self.file)
        self._scene = planes.choose_scene(names, first=not self.file.is_ome or meaning != "image")
        self.series = self.file.series[self._scene]
        self._check_files()
        self.page = self.series.keyframe
        self.shape, self.dtype = (self.page.imagelength, self.page.imagewidth), self.series.dtype
        check_size(*self.shape)
        # tifffile falls back to the pages alone where metadata do not fit them.
        if meaning == "image" and stated and self.series.kind in ("generic", "uniform"):
            raise ImageFileError("the TIFF is truncated or damaged: it is not what its OME or ImageJ metadata state")
        axes, inner = self.series.axes, self.page.axes
        if inner not in ("YX", "YXS", "SYX") or not axes.endswith(inner):
            raise self._unknown_stack()
        # Axes of the sequence of pages, outermost first.
        self._outer, self._sizes = axes[: -len(inner)], tuple(self.series.shape[: -len(inner)])
        if meaning == "labels" and self.page.compression in _LOSSY_COMPRESSIONS:
            raise ImageFileError("the TIFF is compressed as JPEG, whose losses change labels: save it without")
        self._name_axes(planes)
        self._reader = PageReader(self.file, self.page, meaning, self._samples_that_are_channels())
        self._reader.check_complete(self.page)

    def _name_axes(self, planes: Planes) -> None:
        self._axes = self._roles(planes)
        sizes = {axis: size for axis, size in zip(self._axes, self._sizes, strict=True)}
        self.frames, self.planes = sizes.get(_FRAMES, 1), sizes.get(_PLANES, 1)
        self._separate, within = sizes.get(_CHANNELS, 1), self._samples_that_are_channels()
        if self._separate > 1 and (within > 1 or self._is_colour()):
            raise self._unknown_stack()
        chosen = planes.plane is not None or planes.frame is not None
        if self.meaning != "image" and (self._separate > 3 or (self.frames * self.planes > 1 and not chosen)):
            raise self._unknown_stack()
        self.channels = self._names(max(self._separate, within))
        self.colour = self.meaning != "image" or (self._separate == 1 and self._is_colour())

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Height and width of every level of a pyramid, largest first."""
        return tuple((level.keyframe.imagelength, level.keyframe.imagewidth) for level in self.series.levels)

    @property
    def regional(self) -> bool:
        """True if a region can be read without decoding the whole image."""
        return self._reader.regional and len(self.series.pages) == math.prod(self._sizes)

    def close(self) -> None:
        """Closes the file."""
        self.file.close()

    def pixel_size(self) -> float | None:
        """Returns the side of a pixel in µm, and warns of images of the file that are not read."""
        count = len(self.file.series)
        if count > 1 and not self.file.is_ome:
            path, size = self.file.filehandle.path, f"{self.shape[0]} x {self.shape[1]} pixels"
            which = "the first of them" if self._scene == 0 else f"number {self._scene + 1}"
            _log.warning("%s: holds %d separate images; %s, %s, is read", path, count, which, size)
        return pixel_size(self.file, self.series, self._scene)

    def read_page(
        self, frame: int, plane: int, channels: Sequence[int], region: Region | None = None, level: int = 0
    ) -> np.ndarray:
        """Reads channels of one plane; see `OpenImage.read_page`."""
        fixed = {_FRAMES: frame, _PLANES: plane}
        with _naming_damage():
            if self._separate == 1:
                # OpenCV gives grey with alpha as colour.
                pixels = self._read_at(fixed, region, level)
                return pick(pixels.reshape(*pixels.shape[:2], -1)[..., : len(self.channels)], channels)
            stack = None
            for place, channel in enumerate(channels):
                pixels = self._read_at({**fixed, _CHANNELS: channel}, region, level)
                if stack is None:
                    stack = np.empty((*pixels.shape[:2], len(channels)), pixels.dtype)
                stack[..., place] = pixels.reshape(pixels.shape[:2])
                del pixels
            return stack

    def _roles(self, planes: Planes) -> str:
        """Returns the outer axes; one without a name becomes that of channels if one is chosen, else that of planes."""
        axes = self._outer
        unnamed = [axis for axis, size in zip(axes, self._sizes, strict=True) if axis in _UNNAMED and size > 1]
        if len(unnamed) == 1:
            channels = planes.channel is not None and _CHANNELS not in axes and self._samples_that_are_channels() == 1
            role = _CHANNELS if channels and not self._is_colour() else _PLANES if _PLANES not in axes else _FRAMES
            if role not in axes:
                axes = axes.replace(unnamed[0], role)
        known = _FRAMES + _PLANES + _CHANNELS
        if any(size > 1 and axis not in known for axis, size in zip(axes, self._sizes, strict=True)):
            raise self._unknown_stack()
        return axes

    def _is_colour(self) -> bool:
        """Returns True if the samples of a pixel are red, green and blue, whatever they are stored as.

        Several samples in a file that states to be grey are channels; of a mask or labels they are one thing.
        """
        if self.page.photometric in (MIN_IS_WHITE, MIN_IS_BLACK):
            return self.meaning != "image" and self.page.samplesperpixel in (3, 4)
        return self.page.samplesperpixel in (3, 4) or self.page.photometric == PALETTE

    def _samples_that_are_channels(self) -> int:
        """Returns the number of samples of a pixel that are channels and no colour."""
        samples = self.page.samplesperpixel
        if self.meaning != "image" or samples == 1 or self._is_colour():
            return 1
        return samples - (samples == 2 and bool(self.page.extrasamples) and self.page.extrasamples[-1] in _ALPHA)

    def _names(self, count: int) -> tuple[str, ...]:
        if count == 1 and self.meaning == "image" and self._is_colour():
            return COLOURS
        if count == 1 and self.meaning != "image":
            return ("",) * (3 if self._is_colour() and self.page.photometric not in STORED[self.meaning] else 1)
        return channel_names(self.file, self.series, self._scene, count, self._axes, self._sizes)

    def _read_at(self, places: dict[str, int], region: Region | None, level: int) -> np.ndarray:
        """Reads the page at a place along the outer axes: `[H, W]`, or `[H, W, S]` of colours or channels."""
        index = tuple(places.get(axis, 0) for axis in self._axes)
        if len(self.series.pages) != math.prod(self._sizes):
            check_limit(*self.shape)
            # A copy, since the file is closed afterwards.
            pixels = self._reader.shown(np.array(self._whole[index], self.series.dtype))
            return pixels if region is None else pixels[region.y0 : region.y1, region.x0 : region.x1]
        pages = self.series.levels[level].pages
        page = pages[int(np.ravel_multi_index(index, self._sizes)) if index else 0]
        if page is None:
            raise ImageFileError("the plane is in another file of this data set, which is not there")
        return self._reader.read(page, region)

    @cached_property
    def _whole(self) -> np.ndarray:
        """All planes of a file that describes them by one page only, as ImageJ does above 4 GB; read when used."""
        offset, dtype = self.series.dataoffset, self.series.dtype
        if offset is None:
            return self._reader.decompressed(self.series)
        return self.file.filehandle.memmap_array(f"{self.file.byteorder}{dtype.char}", self.series.shape, offset)

    def _check_chain(self) -> None:
        """Refuses a file whose last pages are cut off: tifffile would take it for one of fewer pages."""
        layout, handle = self.file.tiff, self.file.filehandle
        offset, seen = self.file.pages[0].offset, set()
        while offset and offset not in seen:
            seen.add(offset)
            tags = self._number(offset, layout.tagnoformat, layout.tagnosize)
            after = offset + layout.tagnosize + tags * layout.tagsize
            offset = self._number(after, layout.offsetformat, layout.offsetsize)
            if offset >= handle.size:
                raise ImageFileError(f"the TIFF is truncated ({handle.size} bytes)")

    def _check_files(self) -> None:
        """Refuses all but the first file of an OME data set: each describes all of it, which would be counted again."""
        first = self.series.pages[0]
        if first is None:
            raise ImageFileError("belongs to a data set of several files, the first of which is not there")
        if first.parent is not self.file:
            raise ImageFileError(f"belongs to a data set of several files: read {first.parent.filehandle.name}")

    def _number(self, offset: int, layout: str, size: int) -> int:
        self.file.filehandle.seek(offset)
        return struct.unpack(layout, self.file.filehandle.read(size))[0]

    def _unknown_stack(self) -> ImageFileError:
        series = self.series
        return ImageFileError(
            f"the TIFF holds a stack (axes {series.axes}, shape {tuple(series.shape)}); save the plane that is meant"
        )


@contextmanager
def _naming_damage() -> Iterator[None]:
    """Makes an ImageFileError of any other error: a damaged file can fail in each of the parser's steps."""
    try:
        yield
    except (ImageFileError, MemoryError):
        raise
    except Exception as error:
        raise ImageFileError(f"the TIFF is truncated or damaged ({error})") from error
