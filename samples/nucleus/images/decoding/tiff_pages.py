"""Decoding of single pages of a TIFF, or of regions of them, with tifffile or, for some compressions, libtiff."""

from __future__ import annotations

import itertools
import logging
from functools import cached_property

import numpy as np
import tifffile

from nucleus.images.decoding.base import ImageFileError, Meaning, check_limit, decode_with_opencv
from nucleus.images.decoding.opened import Region
from trainkit.tiff import count_empty_parts

_log = logging.getLogger(__name__)
Page = tifffile.TiffPage | tifffile.TiffFrame
# tifffile decodes these without its optional codecs and knows every sample type; libtiff (OpenCV) gets the rest.
_TIFFFILE_COMPRESSIONS = (1, 8, 32773, 32946)
_TIFFFILE_PREDICTORS = (1, 2)
_LIBTIFF_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)
MIN_IS_WHITE, MIN_IS_BLACK, PALETTE = 0, 1, 3
# Meaning -> colour models whose stored numbers are read instead of the colours that they are shown as.
STORED = {"image": (), "mask": (MIN_IS_WHITE,), "labels": (MIN_IS_WHITE, PALETTE)}


class PageReader:
    """Reader of the pages of one image in a TIFF, which all have the layout of a first one.

    Args:
        file: The open file.
        page: The first page.
        meaning: Use of the pixels.
        channels: Number of samples of a pixel that are channels and no colour.
    """

    def __init__(self, file: tifffile.TiffFile, page: Page, meaning: Meaning, channels: int) -> None:
        self.file, self.page, self.meaning, self.channels = file, page, meaning, channels
        self._told_of_gaps = False

    @property
    def own(self) -> bool:
        """True if tifffile decodes the pages by itself."""
        return self.page.compression in _TIFFFILE_COMPRESSIONS and self.page.predictor in _TIFFFILE_PREDICTORS

    @cached_property
    def regional(self) -> bool:
        """True if regions can be decoded by themselves: tifffile knows the compression, as its codecs do."""
        return self.own or (
            self.page.compression in tifffile.TIFF.DECOMPRESSORS and self.page.predictor in tifffile.TIFF.UNPREDICTORS
        )

    def read(self, page: Page, region: Region | None = None) -> np.ndarray:
        """Reads a page: `[H, W]`, or `[H, W, S]` of colours or channels.

        Args:
            page: The page.
            region: Part of it; None for the whole.
        """
        self.check_complete(page)
        if page.parent is self.file:
            return self._read(page, region)
        page.parent.filehandle.open()
        try:
            return self._read(page, region)
        finally:
            page.parent.filehandle.close()

    def _read(self, page: Page, region: Region | None) -> np.ndarray:
        if region is not None and self.regional:
            return self.shown(self._decode_region(page, region))
        check_limit(page.keyframe.imagelength, page.keyframe.imagewidth)
        if not self.own and self.page.compression in _LIBTIFF_COMPRESSIONS and self.channels == 1:
            pixels = decode_with_opencv(self._with_page_first(page))
        else:
            pixels = self.shown(self.decompressed(page))
        return pixels if region is None else pixels[region.y0 : region.y1, region.x0 : region.x1]

    def _decode_region(self, page: Page, region: Region) -> np.ndarray:
        """Decodes the strips or tiles that a region meets, as `[H, W]`, `[H, W, S]` or `[S, H, W]`."""
        key, handle = page.keyframe, page.parent.filehandle
        planar = key.axes == "SYX"
        if page.is_memmappable:
            stored = handle.memmap_array(
                f"{page.parent.byteorder}{key.dtype.char}", key.shape, offset=page.dataoffsets[0]
            )
            rows, columns = slice(region.y0, region.y1), slice(region.x0, region.x1)
            return np.array(stored[:, rows, columns] if planar else stored[rows, columns], key.dtype)
        height, width = (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip, key.imagewidth)
        down, across = -(-key.imagelength // height), -(-key.imagewidth // width)
        rows = range(region.y0 // height, -(-region.y1 // height))
        columns = range(region.x0 // width, -(-region.x1 // width))
        samples = key.samplesperpixel
        found = np.zeros((region.y1 - region.y0, region.x1 - region.x0, samples), key.dtype)
        more = {"jpegtables": key.jpegtables} if key.jpegtables is not None else {}
        if key.jpegheader is not None:
            more["jpegheader"] = key.jpegheader
        for sample, row, column in itertools.product(range(samples if planar else 1), rows, columns):
            index = (sample * down + row) * across + column
            count = page.databytecounts[index]
            if not count:
                continue
            handle.seek(page.dataoffsets[index])
            data, _, _ = key.decode(handle.read(count), index, **more)
            y, x = row * height, column * width
            # Strips and tiles at the edges may reach beyond the image.
            y0, x0 = max(y, region.y0), max(x, region.x0)
            y1 = min(y + data.shape[1], region.y1)
            x1 = min(x + data.shape[2], region.x1)
            place = found[y0 - region.y0 : y1 - region.y0, x0 - region.x0 : x1 - region.x0]
            place[..., sample : sample + 1 if planar else None] = data[0, y0 - y : y1 - y, x0 - x : x1 - x]
        if planar:
            return np.moveaxis(found, -1, 0)
        return found[..., 0] if key.axes == "YX" else found

    @cached_property
    def _data(self) -> bytearray:
        self.file.filehandle.seek(0)
        return bytearray(self.file.filehandle.read())

    def decompressed(self, pixels: Page | tifffile.TiffPageSeries) -> np.ndarray:
        """Decodes a page, or a series that only one page describes."""
        if self.page.compression in _TIFFFILE_COMPRESSIONS:
            return pixels.asarray() if isinstance(pixels, tifffile.TiffPageSeries) else pixels.asarray(buffersize=2**22)
        try:
            return pixels.asarray()
        except Exception as error:  # The error of a missing codec varies by version and compression.
            raise ImageFileError(
                f"the TIFF's compression {getattr(self.page.compression, 'name', self.page.compression)} cannot be "
                f"read here ({error}): install imagecodecs, or save it with deflate or without compression"
            ) from error

    def _with_page_first(self, page: Page) -> bytearray:
        """Returns the file with a page as its first, and with its colour model replaced by grey for stored numbers."""
        order = "little" if self.file.byteorder == "<" else "big"
        at, size = (8, 8) if self.file.is_bigtiff else (4, 4)
        self._data[at : at + size] = page.offset.to_bytes(size, order)
        if page.photometric in STORED[self.meaning]:
            if page.photometric == PALETTE and page.bitspersample != 8:
                raise ImageFileError(
                    f"a compressed palette of {page.bitspersample} bits cannot be read as labels: save 8 bits"
                )
            at = page.aspage().tags["PhotometricInterpretation"].valueoffset
            self._data[at : at + 2] = MIN_IS_BLACK.to_bytes(2, order)
        return self._data

    def check_complete(self, page: Page) -> None:
        """Refuses a page that has fewer strips or tiles than its size needs, or whose pixels are cut off.

        A strip or tile of which both offset and number of bytes are 0 is one that the file states to be empty (GDAL's
        sparse files); a warning counts them.
        """
        try:
            empty, needed, what = count_empty_parts(page)
        except ValueError as error:
            raise ImageFileError(str(error)) from error
        if empty and not self._told_of_gaps:
            self._told_of_gaps = True
            path = self.file.filehandle.path
            _log.warning("%s: is sparse: %d of its %d %s are stored as empty and read as 0", path, empty, needed, what)

    def shown(self, pixels: np.ndarray) -> np.ndarray:
        """Converts decoded samples to the colours that they are shown as, or to stored numbers, by their meaning."""
        page = self.page
        if page.axes == "SYX":
            pixels = np.moveaxis(pixels, 0, -1)
        if page.photometric in STORED[self.meaning]:
            return pixels if pixels.ndim == 2 else pixels[..., 0]
        photometric = page.photometric.name
        if photometric == "PALETTE":
            return (np.moveaxis(page.colormap[:, pixels], 0, -1) >> 8).astype(np.uint8)
        if photometric == "MINISWHITE":
            pixels = ~pixels if pixels.dtype.kind in "bu" else -pixels
        elif photometric == "SEPARATED" and pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 4:
            return _cmyk_to_rgb(pixels)
        elif photometric == "YCBCR" and pixels.dtype == np.uint8 and page.compression not in (1, 8, 32773, 32946):
            # The codecs of JPEG convert to RGB.
            pass
        elif photometric not in ("MINISBLACK", "RGB"):
            raise ImageFileError(f"the TIFF's colour model {photometric} is not supported: save it as RGB or grey")
        if pixels.ndim == 2 or self.channels > 1:
            return pixels
        channels = pixels.shape[2]
        if channels > 4:
            raise ImageFileError(f"the TIFF has {channels} channels; expected grey or RGB, each with or without alpha")
        return np.ascontiguousarray(pixels[..., :3] if channels >= 3 else pixels[..., 0])


def _cmyk_to_rgb(pixels: np.ndarray) -> np.ndarray:
    inks = 255 - pixels.astype(np.uint16)
    return ((inks[..., :3] * inks[..., 3:] + 127) // 255).astype(np.uint8)
