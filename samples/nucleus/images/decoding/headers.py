"""Checks of JPEG and BMP files before they are decoded: their size, and whether they are complete."""

from __future__ import annotations

from nucleus.images.decoding.base import ImageFileError, check_limit, check_size

JPEG = b"\xff\xd8\xff"
BMP = b"BM"
# Markers of a JPEG's frame header: all of SOF0 to SOF15 but the tables among them.
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_START_OF_SCAN = 0xDA


def check_jpeg(data: bytes) -> None:
    """Refuses a JPEG that is too large, or without an end-of-image marker, which decoders fill up with grey.

    Args:
        data: The file.

    Raises:
        ImageFileError: It is truncated or too large.
    """
    if data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda"):
        raise ImageFileError(f"the JPEG is truncated ({len(data)} bytes)")
    position = 2
    while position + 9 < len(data) and data[position] == 0xFF and data[position + 1] != _START_OF_SCAN:
        marker = data[position + 1]
        if marker in _FRAMES:
            height, width = (int.from_bytes(data[position + at : position + at + 2], "big") for at in (5, 7))
            check_limit(height, width)
            return
        # A marker may be preceded by any number of fill bytes.
        position += 1 if marker == 0xFF else 2 + int.from_bytes(data[position + 2 : position + 4], "big")


def check_bmp(data: bytes) -> None:
    """Refuses a BMP without pixels, or with too many.

    Args:
        data: The file.

    Raises:
        ImageFileError: It has no pixels or is too large.
    """
    if len(data) >= 26 and int.from_bytes(data[14:18], "little") >= 40:
        # Rows of a negative height are stored from the top.
        width, height = (int.from_bytes(data[at : at + 4], "little", signed=True) for at in (18, 22))
        check_size(abs(height), width)
        check_limit(abs(height), width)
