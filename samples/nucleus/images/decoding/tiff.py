"""Decoding of TIFF files with tifffile or, for some compressions, libtiff."""

from __future__ import annotations

import logging
import math
import struct
from functools import cached_property
from pathlib import Path

import numpy as np
import tifffile

from nucleus.images.decoding.base import ImageFileError, Meaning, RawImage, check_size, decode_with_opencv
from nucleus.images.decoding.metadata import channel_names, pixel_size
from nucleus.images.decoding.planes import COLOURS, Planes, project

_log = logging.getLogger(__name__)
SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# tifffile decodes these without its optional codecs and knows every sample type; libtiff (OpenCV) gets the rest.
_TIFFFILE_COMPRESSIONS = (1, 8, 32773, 32946)
_TIFFFILE_PREDICTORS = (1, 2)
_LIBTIFF_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)
_LOSSY_COMPRESSIONS = (6, 7)
_MIN_IS_WHITE, _MIN_IS_BLACK, _PALETTE = 0, 1, 3
_ALPHA = (1, 2)
# Meaning -> colour models whose stored numbers are read instead of the colours that they are shown as.
_STORED = {"image": (), "mask": (_MIN_IS_WHITE,), "labels": (_MIN_IS_WHITE, _PALETTE)}
# Axes that metadata name, and those of a plain sequence of pages, whose meaning nobody states.
_FRAMES, _PLANES, _CHANNELS, _UNNAMED = "T", "Z", "C", "IQ"


def decode_tiff(path: Path, meaning: Meaning, planes: Planes, every_channel: bool) -> RawImage:
    """Decodes a TIFF; see `nucleus.images.decoding.decode`."""
    try:
        with tifffile.TiffFile(path) as file:
            return _Reader(file, meaning).read(planes, every_channel)
    except (ImageFileError, MemoryError):
        raise
    except Exception as error:  # A damaged file can fail in any of the parser's steps.
        raise ImageFileError(f"the TIFF is truncated or damaged ({error})") from error


class _Reader:
    """The first image of an open TIFF, page by page."""

    def __init__(self, file: tifffile.TiffFile, meaning: Meaning) -> None:
        self.file, self.meaning = file, meaning
        self.page = file.pages[0]
        check_size(self.page.imagelength, self.page.imagewidth)
        self._check_complete(self.page)
        self._check_chain()
        self.series = file.series[0]
        self._check_files()
        # tifffile falls back to the pages alone where metadata do not fit them.
        stated = file.is_ome or file.is_imagej
        if meaning == "image" and stated and self.series.kind in ("generic", "uniform"):
            raise ImageFileError("the TIFF is truncated or damaged: it is not what its OME or ImageJ metadata state")
        axes, inner = self.series.axes, self.page.axes
        if inner not in ("YX", "YXS", "SYX") or not axes.endswith(inner):
            raise self._unknown_stack()
        # Axes of the sequence of pages, outermost first.
        self.outer, self.shape = axes[: -len(inner)], tuple(self.series.shape[: -len(inner)])
        if meaning == "labels" and self.page.compression in _LOSSY_COMPRESSIONS:
            raise ImageFileError("the TIFF is compressed as JPEG, whose losses change labels: save it without")

    def read(self, planes: Planes, every_channel: bool) -> RawImage:
        """Reads what is chosen, and every channel if that is asked for."""
        axes = self._roles(planes)
        sizes = {axis: size for axis, size in zip(axes, self.shape, strict=True)}
        separate = sizes.get(_CHANNELS, 1)
        within = self._samples_that_are_channels()
        if separate > 1 and (within > 1 or self._is_colour()):
            raise self._unknown_stack()
        if self.meaning != "image" and (separate > 3 or sizes.get(_FRAMES, 1) * sizes.get(_PLANES, 1) > 1):
            raise self._unknown_stack()
        names = self._names(max(separate, within), axes)
        colour = self.meaning != "image" or (separate == 1 and self._is_colour())
        chosen = planes.choose(sizes.get(_FRAMES, 1), sizes.get(_PLANES, 1), names, colour)
        wanted = tuple(range(len(names))) if every_channel else chosen.channels
        fixed = {_FRAMES: chosen.frame}
        if separate > 1:
            stack = [self._projected(axes, {**fixed, _CHANNELS: channel}, chosen.planes, planes) for channel in wanted]
            pixels = np.stack(stack, axis=-1)
        else:
            pixels = self._projected(axes, fixed, chosen.planes, planes)
            # OpenCV gives grey with alpha as colour.
            pixels = pixels.reshape(*pixels.shape[:2], -1)[..., : len(names)]
            if wanted != tuple(range(pixels.shape[2])):
                pixels = pixels[..., list(wanted)]
        shown = chosen.channels if every_channel else tuple(range(len(wanted)))
        size = None
        if every_channel:
            size = pixel_size(self.file, self.series)
            self._tell_of_others()
        return RawImage(pixels, tuple(names[i] for i in wanted), shown, size)

    def _roles(self, planes: Planes) -> str:
        """Returns the outer axes; one without a name becomes that of channels if one is chosen, else that of planes."""
        axes = self.outer
        unnamed = [axis for axis, size in zip(axes, self.shape, strict=True) if axis in _UNNAMED and size > 1]
        if len(unnamed) == 1:
            channels = planes.channel is not None and _CHANNELS not in axes and self._samples_that_are_channels() == 1
            role = _CHANNELS if channels and not self._is_colour() else _PLANES if _PLANES not in axes else _FRAMES
            if role not in axes:
                axes = axes.replace(unnamed[0], role)
        known = _FRAMES + _PLANES + _CHANNELS
        if any(size > 1 and axis not in known for axis, size in zip(axes, self.shape, strict=True)):
            raise self._unknown_stack()
        return axes

    def _is_colour(self) -> bool:
        """Returns True if the samples of a pixel are red, green and blue, whatever they are stored as."""
        if self.page.photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK):
            stated = self.meaning == "image" and self.series.kind in ("ome", "imagej")
            return not stated and self.page.samplesperpixel in (3, 4)
        return self.page.samplesperpixel in (3, 4) or self.page.photometric == _PALETTE

    def _samples_that_are_channels(self) -> int:
        """Returns the number of samples of a pixel that are channels and no colour."""
        samples = self.page.samplesperpixel
        if self.meaning != "image" or samples == 1 or self._is_colour():
            return 1
        return samples - (samples == 2 and bool(self.page.extrasamples) and self.page.extrasamples[-1] in _ALPHA)

    def _names(self, count: int, axes: str) -> tuple[str, ...]:
        if count == 1 and self.meaning == "image" and self._is_colour():
            return COLOURS
        if count == 1 and self.meaning != "image":
            return ("",) * (3 if self._is_colour() and self.page.photometric not in _STORED[self.meaning] else 1)
        return channel_names(self.file, self.series, count, axes, self.shape)

    def _projected(self, axes: str, fixed: dict[str, int], taken: range, planes: Planes) -> np.ndarray:
        pages = (self._read_at([{**fixed, _PLANES: plane}.get(axis, 0) for axis in axes]) for plane in taken)
        return next(pages) if planes.project is None else project(pages, planes.project)

    def _read_at(self, index: list[int]) -> np.ndarray:
        """Reads the page at an index into the outer axes: `[H, W]`, or `[H, W, S]` of colours or channels."""
        if len(self.series.pages) != math.prod(self.shape):
            # A copy, since the file is closed afterwards.
            return self._samples(np.array(self._whole[tuple(index)], self.series.dtype))
        page = self.series.pages[int(np.ravel_multi_index(index, self.shape)) if index else 0]
        if page is None:
            raise ImageFileError("the plane is in another file of this data set, which is not there")
        self._check_complete(page)
        if page.parent is not self.file:
            page.parent.filehandle.open()
            try:
                return self._samples(self._decompressed(page))
            finally:
                page.parent.filehandle.close()
        compression = self.page.compression
        own = compression in _TIFFFILE_COMPRESSIONS and self.page.predictor in _TIFFFILE_PREDICTORS
        if not own and compression in _LIBTIFF_COMPRESSIONS and self._samples_that_are_channels() == 1:
            return decode_with_opencv(self._with_page_first(page))
        return self._samples(self._decompressed(page))

    @cached_property
    def _whole(self) -> np.ndarray:
        """All planes of a file that describes them by one page only, as ImageJ does above 4 GB; read when used."""
        offset, dtype = self.series.dataoffset, self.series.dtype
        if offset is None:
            return self._decompressed(self.series)
        return self.file.filehandle.memmap_array(f"{self.file.byteorder}{dtype.char}", self.series.shape, offset)

    @cached_property
    def _data(self) -> bytearray:
        self.file.filehandle.seek(0)
        return bytearray(self.file.filehandle.read())

    def _decompressed(self, pixels: tifffile.TiffPage | tifffile.TiffFrame | tifffile.TiffPageSeries) -> np.ndarray:
        if self.page.compression in _TIFFFILE_COMPRESSIONS:
            return pixels.asarray()
        try:
            return pixels.asarray()
        except Exception as error:  # The error of a missing codec varies by version and compression.
            raise ImageFileError(
                f"the TIFF's compression {getattr(self.page.compression, 'name', self.page.compression)} cannot be "
                f"read here ({error}): install imagecodecs, or save it with deflate or without compression"
            ) from error

    def _with_page_first(self, page: tifffile.TiffPage | tifffile.TiffFrame) -> bytearray:
        """Returns the file with a page as its first, and with its colour model replaced by grey for stored numbers."""
        order = "little" if self.file.byteorder == "<" else "big"
        at, size = (8, 8) if self.file.is_bigtiff else (4, 4)
        self._data[at : at + size] = page.offset.to_bytes(size, order)
        if page.photometric in _STORED[self.meaning]:
            if page.photometric == _PALETTE and page.bitspersample != 8:
                raise ImageFileError(
                    f"a compressed palette of {page.bitspersample} bits cannot be read as labels: save 8 bits"
                )
            at = page.aspage().tags["PhotometricInterpretation"].valueoffset
            self._data[at : at + 2] = _MIN_IS_BLACK.to_bytes(2, order)
        return self._data

    def _check_complete(self, page: tifffile.TiffPage | tifffile.TiffFrame) -> None:
        size = page.parent.filehandle.size
        ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True))
        if max(ends, default=0) > size:
            raise ImageFileError(f"the TIFF is truncated ({size} bytes)")

    def _check_chain(self) -> None:
        """Refuses a file whose last pages are cut off: tifffile would take it for one of fewer pages."""
        layout, handle = self.file.tiff, self.file.filehandle
        offset, seen = self.page.offset, set()
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

    def _tell_of_others(self) -> None:
        count = len(self.file.series)
        if count > 1:
            path, size = self.file.filehandle.path, f"{self.page.imagelength} x {self.page.imagewidth} pixels"
            _log.warning("%s: holds %d separate images; the first of them, %s, is read", path, count, size)

    def _number(self, offset: int, layout: str, size: int) -> int:
        self.file.filehandle.seek(offset)
        return struct.unpack(layout, self.file.filehandle.read(size))[0]

    def _unknown_stack(self) -> ImageFileError:
        series = self.series
        return ImageFileError(
            f"the TIFF holds a stack (axes {series.axes}, shape {tuple(series.shape)}); save the plane that is meant"
        )

    def _samples(self, pixels: np.ndarray) -> np.ndarray:
        page = self.page
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, -1)
        if page.photometric in _STORED[self.meaning]:
            return pixels if pixels.ndim == 2 else pixels[..., 0]
        photometric = page.photometric.name
        if photometric == "PALETTE":
            return (np.moveaxis(page.colormap[:, pixels], 0, -1) >> 8).astype(np.uint8)
        if photometric == "MINISWHITE":
            pixels = ~pixels if pixels.dtype.kind in "bu" else -pixels
        elif photometric == "SEPARATED" and pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 4:
            return _cmyk_to_rgb(pixels)
        elif photometric not in ("MINISBLACK", "RGB"):
            raise ImageFileError(f"the TIFF's colour model {photometric} is not supported: save it as RGB or grey")
        if pixels.ndim == 2 or self._samples_that_are_channels() > 1:
            return pixels
        channels = pixels.shape[2]
        if channels > 4:
            raise ImageFileError(f"the TIFF has {channels} channels; expected grey or RGB, each with or without alpha")
        return np.ascontiguousarray(pixels[..., :3] if channels >= 3 else pixels[..., 0])


def _cmyk_to_rgb(pixels: np.ndarray) -> np.ndarray:
    inks = 255 - pixels.astype(np.uint16)
    return ((inks[..., :3] * inks[..., 3:] + 127) // 255).astype(np.uint8)
