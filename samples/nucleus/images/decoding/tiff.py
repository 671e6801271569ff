"""Decoding of TIFF files with tifffile or, for some compressions, libtiff."""

from __future__ import annotations

import io

import numpy as np
import tifffile

from nucleus.images.decoding.base import ImageFileError, Meaning, check_size, decode_with_opencv

SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# tifffile decodes these without its optional codecs and knows every sample type; libtiff (OpenCV) gets the rest.
_TIFFFILE_COMPRESSIONS = (1, 8, 32773, 32946)
_TIFFFILE_PREDICTORS = (1, 2)
_LIBTIFF_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)
_LOSSY_COMPRESSIONS = (6, 7)
_MIN_IS_WHITE, _MIN_IS_BLACK, _PALETTE = 0, 1, 3
# Meaning -> colour models whose stored numbers are read instead of the colours that they are shown as.
_STORED = {"image": (), "mask": (_MIN_IS_WHITE,), "labels": (_MIN_IS_WHITE, _PALETTE)}


def decode_tiff(data: bytes, meaning: Meaning) -> np.ndarray:
    """Decodes a TIFF; see `nucleus.images.decoding.decode`."""
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            check_size(page.imagelength, page.imagewidth)
            composite = _check(file, page, len(data))
            if meaning == "labels" and page.compression in _LOSSY_COMPRESSIONS:
                raise ImageFileError("the TIFF is compressed as JPEG, whose losses change labels: save it without")
            if composite:
                return np.moveaxis(
                    _decompressed(file.series[0], page).reshape(-1, page.imagelength, page.imagewidth), 0, -1
                )
            own = page.compression in _TIFFFILE_COMPRESSIONS and page.predictor in _TIFFFILE_PREDICTORS
            if not own and page.compression in _LIBTIFF_COMPRESSIONS:
                return decode_with_opencv(_stored_as_grey(data, file, page, meaning))
            return _samples(page, _decompressed(page, page), meaning)
    except ImageFileError:
        raise
    except Exception as error:  # A damaged file can fail in any of the parser's steps.
        raise ImageFileError(f"the TIFF is truncated or damaged ({error})") from error


def _decompressed(pixels: tifffile.TiffPage | tifffile.TiffPageSeries, page: tifffile.TiffPage) -> np.ndarray:
    if page.compression not in _TIFFFILE_COMPRESSIONS:
        try:
            return pixels.asarray()
        except Exception as error:  # The error of a missing codec varies by version and compression.
            raise ImageFileError(
                f"the TIFF's compression {getattr(page.compression, 'name', page.compression)} cannot be read here "
                f"({error}): install imagecodecs, or save it with deflate or without compression"
            ) from error
    return pixels.asarray()


def _stored_as_grey(data: bytes, file: tifffile.TiffFile, page: tifffile.TiffPage, meaning: Meaning) -> bytes:
    """Returns the file with its colour model replaced by grey where the stored numbers are read."""
    if page.photometric not in _STORED[meaning]:
        return data
    if page.photometric == _PALETTE and page.bitspersample != 8:
        raise ImageFileError(f"a compressed palette of {page.bitspersample} bits cannot be read as labels: save 8 bits")
    at = page.tags["PhotometricInterpretation"].valueoffset
    order = "little" if file.byteorder == "<" else "big"
    return data[:at] + _MIN_IS_BLACK.to_bytes(2, order) + data[at + 2 :]


def _check(file: tifffile.TiffFile, page: tifffile.TiffPage, size: int) -> bool:
    """Refuses a truncated file or a stack of planes; returns True if the channels are separate pages."""
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True))
    if max(ends, default=0) > size:
        raise ImageFileError(f"the TIFF is truncated ({size} bytes)")
    series = file.series[0]
    long = "".join(axis for axis, size in zip(series.axes, series.shape, strict=True) if size > 1 or axis in "YX")
    if long == "CYX" and page.axes == "YX" and series.shape[series.axes.index("C")] in (2, 3):
        return True
    if long not in ("YX", "YXS", "SYX") or page.axes not in ("YX", "YXS", "SYX"):
        raise ImageFileError(
            f"the TIFF holds a stack (axes {series.axes}, shape {tuple(series.shape)}); save the plane that is meant"
        )
    return False


def _cmyk_to_rgb(pixels: np.ndarray) -> np.ndarray:
    inks = 255 - pixels.astype(np.uint16)
    return ((inks[..., :3] * inks[..., 3:] + 127) // 255).astype(np.uint8)


def _samples(page: tifffile.TiffPage, pixels: np.ndarray, meaning: Meaning) -> np.ndarray:
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    photometric = page.photometric.name
    if page.photometric in _STORED[meaning]:
        return pixels if pixels.ndim == 2 else pixels[..., 0]
    if photometric == "PALETTE":
        return (np.moveaxis(page.colormap[:, pixels], 0, -1) >> 8).astype(np.uint8)
    if photometric == "MINISWHITE":
        pixels = ~pixels if pixels.dtype.kind in "bu" else -pixels
    elif photometric == "SEPARATED" and pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 4:
        return _cmyk_to_rgb(pixels)
    elif photometric not in ("MINISBLACK", "RGB"):
        raise ImageFileError(f"the TIFF's colour model {photometric} is not supported: save it as RGB or grey")
    if pixels.ndim == 2:
        return pixels
    channels = pixels.shape[2]
    if channels > 4:
        raise ImageFileError(f"the TIFF has {channels} channels; expected grey or RGB, each with or without alpha")
    return np.ascontiguousarray(pixels[..., :3] if channels >= 3 else pixels[..., 0])
