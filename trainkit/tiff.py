"""Completeness of a TIFF's pixels: decoders show what is missing as black."""

from __future__ import annotations

import math

import tifffile


def count_empty_parts(page: tifffile.TiffPage | tifffile.TiffFrame) -> tuple[int, int, str]:
    """Counts the strips or tiles of a page that the file states to be empty, as GDAL's sparse files do.

    Args:
        page: A page of an open file.

    Returns:
        Number of empty strips or tiles, number of all that the page's size needs, and "strips" or "tiles".

    Raises:
        ValueError: Strips or tiles are missing or cut off, or have a place without bytes or bytes without a place.
    """
    size, needed = page.parent.filehandle.size, math.prod(page.keyframe.chunked)
    parts = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    what = "tiles" if page.keyframe.is_tiled else "strips"
    if len(parts) < needed and not _is_whole(page):
        raise ValueError(f"the TIFF is truncated or damaged: it has {len(parts)} {what}, its size needs {needed}")
    if max((offset + count for offset, count in parts), default=0) > size:
        raise ValueError(f"the TIFF is truncated ({size} bytes)")
    if any((offset == 0) != (count == 0) for offset, count in parts):
        raise ValueError(f"the TIFF is damaged: some of its {what} have no place or no bytes")
    return sum(count == 0 for _, count in parts), needed, what


def _is_whole(page: tifffile.TiffPage | tifffile.TiffFrame) -> bool:
    """Returns True if the pixels are one uncompressed piece of the right length, as strips that were joined."""
    key = page.keyframe
    return len(page.dataoffsets) == 1 and key.compression == 1 and page.databytecounts[0] >= key.nbytes
