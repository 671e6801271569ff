"""Decoding of PNG files: a check of their chunks, and the indices of a palette."""

from __future__ import annotations

import zlib

import numpy as np

from nucleus.images.decoding.base import ImageFileError, Meaning, check_limit, check_size, decode_with_opencv

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Offsets of the bits per sample and the colour type in the header, always a PNG's first chunk.
_BITS, _COLOUR_TYPE = 24, 25
_PALETTE = 3


def decode_png(data: bytes, meaning: Meaning) -> np.ndarray:
    """Decodes a PNG; see `nucleus.images.decoding.decode`."""
    check_chunks(data)
    if meaning == "labels" and data[_COLOUR_TYPE] == _PALETTE:
        return _indices(data)
    return decode_with_opencv(data)


def _indices(data: bytes) -> np.ndarray:
    """Reads the indices of a palette image by turning the file into a grey one: only header and palette differ."""
    grey = bytearray(data)
    grey[_COLOUR_TYPE] = 0
    header = len(SIGNATURE) + 4
    grey[header + 17 : header + 21] = zlib.crc32(grey[header : header + 17]).to_bytes(4, "big")
    position = len(SIGNATURE)
    while position < len(grey):
        end = position + 12 + int.from_bytes(grey[position : position + 4], "big")
        if grey[position + 4 : position + 8] in (b"PLTE", b"tRNS", b"bKGD", b"hIST", b"sBIT"):
            del grey[position:end]
        else:
            position = end
    # Grey of less than 8 bits is spread over 0...255.
    return decode_with_opencv(bytes(grey)) // np.uint8(255 // (2 ** data[_BITS] - 1))


def check_chunks(data: bytes) -> None:
    """Walks a PNG's chunks to its end: some OpenCV releases return a partly filled image for a cut-off file.

    Args:
        data: Content of the file.

    Raises:
        ImageFileError: The file is truncated, a checksum differs, or the image has no pixels.
    """
    position = len(SIGNATURE)
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
            check_size(height, width)
            check_limit(height, width)
        position = end
