"""COCO's three mask formats: polygons, run lengths as a list, and run lengths as a compressed string."""

from __future__ import annotations

from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from nucleus.datasets.layouts.painting import run_pixels

_CHARACTER_BASE = 48
_PAYLOAD_BITS = 5
_CONTINUES = 0x20
_NEGATIVE = 0x10
# Bits of the largest number that pycocotools writes.
_MOST_BITS = 64


def segmentation_pixels(segmentation: Any, shape: tuple[int, int]) -> np.ndarray:
    """Returns the pixels of a segmentation.

    Args:
        segmentation: A list of polygons, each [x1, y1, x2, y2, ...] in pixels, which are filled by pycocotools and
            clipped to the image; or {"size": [H, W], "counts": list or string}.
        shape: (height, width) of the image.

    Returns:
        int64 [P] indices into the image flattened row by row.

    Raises:
        ValueError: The segmentation is malformed, or does not fit the image.
    """
    if isinstance(segmentation, dict):
        size, counts = segmentation.get("size"), segmentation.get("counts")
        if size != list(shape):
            raise ValueError(f"a run-length code of size {size} for an image of {shape[0]} x {shape[1]} pixels")
        if isinstance(counts, str):
            counts = decompress_counts(counts)
        pixels = shape[0] * shape[1]
        if not isinstance(counts, list) or not all(type(count) is int and 0 <= count <= pixels for count in counts):
            raise ValueError(f"the counts of a run-length code must be whole numbers from 0 to {pixels}")
        if sum(counts) != pixels:
            raise ValueError(
                f"the counts of a run-length code add up to {sum(counts)}; the image has {shape[0]} x {shape[1]} pixels"
            )
    else:
        counts = _fill(_checked_polygons(segmentation, shape), shape)
    runs = np.array(counts, np.int64)
    starts = np.cumsum(runs) - runs
    # Counts alternate, background first.
    return run_pixels(starts[1::2], runs[1::2], shape)


def compress_runs(starts: np.ndarray, lengths: np.ndarray, shape: tuple[int, int]) -> dict[str, Any]:
    """Encodes runs as COCO's compressed run-length code.

    Args:
        starts: int [R], ascending, first pixel of each run, counted from 0 down the columns, left to right.
        lengths: int [R], number of pixels of each run.
        shape: (height, width) of the image.

    Returns:
        {"size": [H, W], "counts": string}.
    """
    bounds = np.stack([starts, starts + lengths], axis=1).ravel()
    counts = np.diff(bounds, prepend=0, append=shape[0] * shape[1]).tolist()
    # Like pycocotools, without a count of 0 for the background after the last run.
    counts = counts[:-1] if counts[-1] == 0 else counts
    code = coco_mask.frPyObjects({"size": list(shape), "counts": counts}, *shape)
    return {"size": list(shape), "counts": code["counts"].decode("ascii")}


def decompress_counts(text: str) -> list[int]:
    """Decodes the counts of COCO's compressed run-length code.

    Each character carries five bits of a number, the lowest first, and a flag for more to follow; from the fourth
    number on, the stored number is the difference to the second last one (`rleToString` of pycocotools).

    Args:
        text: The compressed code.

    Returns:
        The lengths of the runs in pixels, background first.

    Raises:
        ValueError: The text is malformed.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - _CHARACTER_BASE
        if not 0 <= bits < 2 * _CONTINUES:
            raise ValueError(f"{character!r} is not possible in a compressed run-length code")
        if shift > _MOST_BITS:
            raise ValueError("a number of a compressed run-length code is too long")
        value |= (bits & (_CONTINUES - 1)) << shift
        shift += _PAYLOAD_BITS
        if bits & _CONTINUES:
            continue
        if bits & _NEGATIVE:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value, shift = 0, 0
    if shift:
        raise ValueError("the compressed run-length code is cut off")
    return counts


def _checked_polygons(segmentation: Any, shape: tuple[int, int]) -> list[list[float]]:
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError(f"expected polygons or a run-length code; found {str(segmentation)[:60]}")
    for polygon in segmentation:
        numbers = polygon if isinstance(polygon, list) else []
        if len(numbers) < 6 or len(numbers) % 2 or not all(map(_is_number, numbers)):
            raise ValueError(f"a polygon needs three points or more, each x and y; found {str(polygon)[:60]}")
        points = np.array(numbers, np.float64).reshape(-1, 2)
        sides = np.array(shape[::-1])
        # Points may lie a little outside. Those far outside would make pycocotools allocate unlimited memory; NaN fails
        # the comparison, too.
        if not np.all((points >= -sides) & (points <= 2 * sides)):
            raise ValueError(f"a polygon lies outside an image of {shape[0]} x {shape[1]} pixels")
    return segmentation


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _fill(polygons: list[list[float]], shape: tuple[int, int]) -> list[int]:
    code = coco_mask.merge(coco_mask.frPyObjects(polygons, *shape))
    return decompress_counts(code["counts"].decode("ascii"))
