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
* Two or three channels that a TIFF calls so (axes CYX, as ImageJ and OME write them) are red, green and blue in their
  order, whatever colours the file shows them in; of two, blue is 0.
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
# Where the header, always a PNG's first chunk, has the bits of a sample and the colour type.
_PNG_BITS, _PNG_COLOUR_TYPE = 24, 25
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_BMP_SIGNATURE = b"BM"
_TIFF_SIGNATURES = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
# tifffile decodes these without its optional codecs and knows every sample type; libtiff (OpenCV) gets the rest.
_TIFFFILE_COMPRESSIONS = (1, 8, 32773, 32946)
_TIFFFILE_PREDICTORS = (1, 2)
_LIBTIFF_COMPRESSIONS = (1, 2, 3, 4, 5, 7, 8, 32773, 32946)
_LOSSY_COMPRESSIONS = (6, 7)
_MIN_IS_WHITE, _MIN_IS_BLACK, _PALETTE = 0, 1, 3
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
        path: A PNG, TIFF or BMP file of whole numbers, which may be stored as floats. What is stored counts, not the
            colour that it stands for: of a palette the indices, and 0 where a TIFF's 0 is white. Of three equal
            channels one is read; alpha is dropped.

    Returns:
        int32 [H, W], 0 background; the numbers are those of the file.

    Raises:
        ImageFileError: as for `read_image`; also if the file is a JPEG, whose losses make up labels, or has channels
            that differ, fractions, negative numbers or numbers above the highest int32.
    """
    try:
        return _to_labels(_decode(Path(path), as_labels=True))
    except ImageFileError as error:
        raise ImageFileError(f"{path}: {error}") from error.__cause__


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
        pixels: [H, W] grey, [H, W, 2] red and green or [H, W, 3] RGB samples of any real dtype.

    Returns:
        uint8 [H, W, 3], by the rules at the top of this module; 8-bit RGB comes back as it is, uncopied.
    """
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    elif pixels.dtype != np.uint8:
        pixels = _scale_to_uint8(pixels)
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    elif pixels.shape[2] == 2:
        pixels = np.pad(pixels, ((0, 0), (0, 0), (0, 1)))
    return pixels


def _to_labels(pixels: np.ndarray) -> np.ndarray:
    what = f"no label image but {pixels.dtype} pixels of shape {pixels.shape}"
    if pixels.ndim == 3:
        if (pixels != pixels[..., :1]).any():
            raise ImageFileError(f"{what}, whose channels differ: save each nucleus' number in one channel")
        pixels = pixels[..., 0]
    if np.issubdtype(pixels.dtype, np.floating) and not (np.isfinite(pixels) & (pixels == np.rint(pixels))).all():
        raise ImageFileError(f"{what}, which are no whole numbers")
    if pixels.min() < 0:
        raise ImageFileError(f"{what}, of which some are negative")
    if pixels.max() > _HIGHEST_LABEL:
        raise ImageFileError(f"a label is above {_HIGHEST_LABEL}")
    return pixels.astype(np.int32)


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


def _decode(path: Path, as_labels: bool = False) -> np.ndarray:
    """Samples of a file as they are stored: [H, W] grey, [H, W, 2] or [H, W, 3] RGB, alpha dropped.

    Of a palette they are the colours, or for labels the indices; losses are refused for labels.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ImageFileError(f"cannot be read ({error.strerror})") from error
    if not data:
        raise ImageFileError("the file is empty (0 bytes)")
    if data.startswith(_TIFF_SIGNATURES):
        return _decode_tiff(data, as_labels)
    if data.startswith(_PNG_SIGNATURE):
        _check_png(data)
        if as_labels and data[_PNG_COLOUR_TYPE] == _PALETTE:
            return _decode_png_indices(data)
    elif data.startswith(_JPEG_SIGNATURE):
        if as_labels:
            raise ImageFileError("a JPEG cannot hold labels, since its losses change them: save them as PNG or TIFF")
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


def _decode_png_indices(data: bytes) -> np.ndarray:
    """Reads a palette's indices: as grey, the PNG is the same but for its header and the palette."""
    grey = bytearray(data)
    grey[_PNG_COLOUR_TYPE] = 0
    header = len(_PNG_SIGNATURE) + 4
    grey[header + 17 : header + 21] = zlib.crc32(grey[header : header + 17]).to_bytes(4, "big")
    position = len(_PNG_SIGNATURE)
    while position < len(grey):
        end = position + 12 + int.from_bytes(grey[position : position + 4], "big")
        if grey[position + 4 : position + 8] in (b"PLTE", b"tRNS", b"bKGD", b"hIST", b"sBIT"):
            del grey[position:end]
        else:
            position = end
    # Grey of less than 8 bits is spread over 0...255.
    return _decode_with_opencv(bytes(grey)) // np.uint8(255 // (2 ** data[_PNG_BITS] - 1))


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


def _decode_tiff(data: bytes, as_labels: bool) -> np.ndarray:
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            page = file.pages[0]
            _check_size(page.imagelength, page.imagewidth)
            composite = _check_tiff(file, page, len(data))
            if as_labels and page.compression in _LOSSY_COMPRESSIONS:
                raise ImageFileError("the TIFF is compressed as JPEG, whose losses change labels: save it without")
            if composite:
                return np.moveaxis(
                    _decompressed(file.series[0], page).reshape(-1, page.imagelength, page.imagewidth), 0, -1
                )
            own = page.compression in _TIFFFILE_COMPRESSIONS and page.predictor in _TIFFFILE_PREDICTORS
            if not own and page.compression in _LIBTIFF_COMPRESSIONS:
                return _decode_with_opencv(_stored_as_grey(data, file, page) if as_labels else data)
            return _tiff_samples(page, _decompressed(page, page), as_labels)
    except ImageFileError:
        raise
    except Exception as error:  # a damaged file can fail in any of the parser's steps
        raise ImageFileError(f"the TIFF is truncated or damaged ({error})") from error


def _decompressed(pixels: tifffile.TiffPage | tifffile.TiffPageSeries, page: tifffile.TiffPage) -> np.ndarray:
    if page.compression not in _TIFFFILE_COMPRESSIONS:
        try:
            return pixels.asarray()
        except Exception as error:  # what is missing shows in other ways, by version and compression
            raise ImageFileError(
                f"the TIFF's compression {getattr(page.compression, 'name', page.compression)} cannot be read here "
                f"({error}): install imagecodecs, or save it with deflate or without compression"
            ) from error
    return pixels.asarray()


def _stored_as_grey(data: bytes, file: tifffile.TiffFile, page: tifffile.TiffPage) -> bytes:
    """The file, which says that a palette's indices, or what counts from white, are grey values."""
    if page.photometric not in (_PALETTE, _MIN_IS_WHITE):
        return data
    if page.photometric == _PALETTE and page.bitspersample != 8:
        raise ImageFileError(f"a compressed palette of {page.bitspersample} bits cannot be read as labels: save 8 bits")
    at = page.tags["PhotometricInterpretation"].valueoffset
    order = "little" if file.byteorder == "<" else "big"
    return data[:at] + _MIN_IS_BLACK.to_bytes(2, order) + data[at + 2 :]


def _check_tiff(file: tifffile.TiffFile, page: tifffile.TiffPage, size: int) -> bool:
    """Makes sure that the file is whole and one image; returns whether its channels lie in pages of their own."""
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


def _tiff_samples(page: tifffile.TiffPage, pixels: np.ndarray, as_labels: bool) -> np.ndarray:
    if page.axes == "SYX":
        pixels = np.moveaxis(pixels, 0, -1)
    photometric = page.photometric.name
    if photometric in ("PALETTE", "MINISWHITE") and as_labels:
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
