"""Image files in, `uint8 [H, W, 3]` RGB out.

The rules, in one place:

* PNG, TIFF, JPEG and BMP are read; the format is told by the file's first bytes, never by its name.
* Grayscale, 1-bit and palette images become RGB. An alpha channel is dropped (not blended): in microscopy it
  marks nothing. 1-bit images become 0 and 255.
* CMYK becomes RGB without a colour profile: what each ink and black let through, multiplied.
* 8-bit samples are kept as they are. Anything else (16-bit, 32-bit, float) is scaled linearly so that the image's
  own 0.1th percentile becomes 0 and its 99.9th percentile 255, one scale for all channels, values outside clipped.
  An image so sparse that both percentiles agree is scaled from its minimum to its maximum; a constant one is black.
  Samples that are not finite become 0.
* A TIFF that holds a stack is refused: which plane is meant is not ours to guess. Where a TIFF holds several
  separate images (a pyramid, a thumbnail) the first is read.
* Pixels are taken in stored order: an EXIF orientation is ignored, as masks are drawn on stored pixels.
"""

from __future__ import annotations

import io
import os
import zlib
from pathlib import Path

import cv2
import numpy as np
import tifffile

IMAGE_SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_BMP_SIGNATURE = b"BM"
_TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# tifffile decodes these without its optional codecs and knows every sample type; libtiff (OpenCV) gets the rest.
_TIFFFILE_COMPRESSIONS = (1, 8, 32773, 32946)
_TIFFFILE_PREDICTORS = (1, 2)
_SCALE_PERCENTILES = (0.1, 99.9)
_HIGHEST_LABEL = np.iinfo(np.int32).max


class ImageFileError(ValueError):
    """An image file that cannot be used; the message names the file and the cause."""


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Reads an image file of any mode.

    Args:
        path: a PNG, TIFF, JPEG or BMP file.

    Returns:
        uint8 [H, W, 3], RGB, by the rules at the top of this module.

    Raises:
        ImageFileError: the file is missing, empty, truncated, damaged, of no pixels, or of an unknown format.
    """
    try:
        return to_rgb(_decode(Path(path)))
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error.__cause__


def read_mask(path: str | os.PathLike) -> np.ndarray:
    """Reads a mask file: every pixel with a non-zero grey value or colour belongs to the mask.

    Args:
        path: as for `read_image`. An alpha channel is ignored.

    Returns:
        bool [H, W].

    Raises:
        ImageFileError: as for `read_image`.
    """
    try:
        pixels = _decode(Path(path))
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error.__cause__
    mask = pixels != 0
    return mask if mask.ndim == 2 else mask.any(axis=-1)


def read_labels(path: str | os.PathLike) -> np.ndarray:
    """Reads a label image, of this project or of another.

    Args:
        path: A PNG or TIFF file of whole numbers with one channel.

    Returns:
        int32 [H, W], 0 background; the numbers are those of the file.

    Raises:
        ImageFileError: as for `read_image`; also if the file has several channels, fractions, negative numbers or
            numbers above the highest int32.
    """
    try:
        pixels = _decode(Path(path))
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error.__cause__
    if pixels.ndim != 2 or not np.issubdtype(pixels.dtype, np.integer) or pixels.min() < 0:
        raise ImageFileError(f"{path}: no label image but {pixels.dtype} pixels of shape {pixels.shape}")
    if pixels.max() > _HIGHEST_LABEL:
        raise ImageFileError(f"{path}: a label is above {_HIGHEST_LABEL}")
    return pixels.astype(np.int32)


def list_images(folder: str | os.PathLike) -> list[Path]:
    """The image files (by suffix) that lie directly in a folder, sorted by name; hidden files are left out."""
    return sorted(
        path
        for path in Path(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Brings decoded samples to 8-bit RGB.

    Args:
        pixels: [H, W] grey or [H, W, 3] RGB samples of any real dtype.

    Returns:
        uint8 [H, W, 3], by the rules at the top of this module; 8-bit RGB comes back as it is, uncopied.
    """
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif pixels.dtype != np.uint8:
        pixels = _scale_to_uint8(pixels)
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    return pixels


def _scale_to_uint8(pixels: np.ndarray) -> np.ndarray:
    finite = np.isfinite(pixels)
    values = pixels[finite]
    if values.size == 0:
        return np.zeros(pixels.shape, np.uint8)
    low, high = np.percentile(values.astype(np.float64), _SCALE_PERCENTILES)
    if low == high:
        low, high = float(values.min()), float(values.max())
    if low == high:
        return np.zeros(pixels.shape, np.uint8)
    scaled = (np.where(finite, pixels, low).astype(np.float64) - low) * (255.0 / (high - low))
    return np.rint(np.clip(scaled, 0.0, 255.0)).astype(np.uint8)


def _decode(path: Path) -> np.ndarray:
    """Samples of a file as they are stored: [H, W] grey or [H, W, 3] RGB, alpha dropped."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageFileError(f"cannot be read ({error.strerror})") from error
    if not data:
        raise ImageFileError("the file is empty (0 bytes)")
    if data.startswith(_TIFF_SIGNATURES):
        return _decode_tiff(data)
    if data.startswith(_PNG_SIGNATURE):
        _check_png(data)
    elif data.startswith(_JPEG_SIGNATURE):
        _check_jpeg(data)
    elif not data.startswith(_BMP_SIGNATURE):
        raise ImageFileError("is no PNG, TIFF, JPEG or BMP file")
    return _decode_with_opencv(data)


def _decode_with_opencv(data: bytes) -> np.ndarray:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ImageFileError(f"cannot be decoded ({error.err or error})") from error
    if pixels is None:
        raise ImageFileError("cannot be decoded: the file is truncated or damaged")
    if pixels.ndim == 2:
        return pixels
    # IMREAD_UNCHANGED gives BGR or BGRA; grey with alpha comes as BGRA too.
    return cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def _check_png(data: bytes) -> None:
    """Walks a PNG's chunks to its end: some OpenCV releases return a partly filled image for a cut-off file."""
    position = len(_PNG_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 12 + length
        if end > len(data):
            raise ImageFileError(f"the PNG is truncated ({len(data)} bytes)")
        kind = data[position + 4 : position + 8]
        if zlib.crc32(data[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise ImageFileError(f"the PNG is damaged (checksum of its {kind!r} chunk at byte {position})")
        if kind == b"IHDR":
            width, height = (int.from_bytes(data[position + at : position + at + 4], "big") for at in (8, 12))
            _check_size(height, width)
        position = end


def _check_jpeg(data: bytes) -> None:
    """A complete JPEG ends its last scan with the end-of-image marker; decoders fill a cut-off one with grey."""
    if data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):
        raise ImageFileError(f"the JPEG is truncated ({len(data)} bytes)")


def _check_size(height: int, width: int) -> None:
    if height <= 0 or width <= 0:
        raise ImageFileError(f"the image has no pixels (height {height}, width {width})")


def _decode_tiff(data: bytes) -> np.ndarray:
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            _check_size(page.imagelength, page.imagewidth)
            _check_tiff(file, page, len(data))
            own = page.compression in _TIFFFILE_COMPRESSIONS and page.predictor in _TIFFFILE_PREDICTORS
            return _tiff_samples(page) if own else _decode_with_opencv(data)
    except ImageFileError:
        raise
    except Exception as error:  # a damaged file can fail in any of the parser's steps
        raise ImageFileError(f"the TIFF is truncated or damaged ({error})") from error


def _check_tiff(file: tifffile.TiffFile, page: tifffile.TiffPage, size: int) -> None:
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True))
    if max(ends, default=0) > size:
        raise ImageFileError(f"the TIFF is truncated ({size} bytes)")
    series = file.series[0]
    long = "".join(axis for axis, size in zip(series.axes, series.shape, strict=True) if size > 1 or axis in "YX")
    if long not in ("YX", "YXS", "SYX") or page.axes not in ("YX", "YXS", "SYX"):
        raise ImageFileError(
            f"the TIFF holds a stack (axes {series.axes}, shape {tuple(series.shape)}); save the plane that is meant"
        )


def _cmyk_to_rgb(pixels: np.ndarray) -> np.ndarray:
    inks = 255 - pixels.astype(np.uint16)
    return ((inks[..., :3] * inks[..., 3:] + 127) // 255).astype(np.uint8)


def _tiff_samples(page: tifffile.TiffPage) -> np.ndarray:
    pixels = page.asarray()
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    photometric = page.photometric.name
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
