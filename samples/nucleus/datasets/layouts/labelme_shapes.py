"""Shapes of labelme (https://github.com/wkentaro/labelme) as pixels.

Polygons, rectangles, circles and masks are nuclei; points and lines are none. Shapes with one `group_id` and one label
are pieces of one nucleus. Coordinates count from the corner of the first pixel, and a pixel is inside if its centre is.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nucleus.datasets.layouts.painting import is_coordinate
from nucleus.images.decoding import ImageFileError
from nucleus.images.polygons import fill, fill_ellipse
from trainkit.reading import read_json

_AREAS = ("polygon", "rectangle", "circle", "mask")


def is_labelme(path: Path) -> bool:
    """Returns True if a JSON file has the keys of labelme, without parsing it."""
    data = path.read_bytes()
    return b'"shapes"' in data and b'"imagePath"' in data


def read_shapes(path: Path, shape: tuple[int, int]) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
    """Reads the nuclei of a labelme file as pixels.

    Args:
        path: The JSON file of an image.
        shape: (height, width) of the image.

    Returns:
        areas: (name, int64 `[P]` indices into the flattened image) of each nucleus, in the order of the file.
        others: Descriptions of the shapes that are no areas.

    Raises:
        ImageFileError: The file cannot be read, is of an image of another size, or a shape is malformed.
    """
    content = read_json(path, "is no JSON of labelme", ImageFileError)
    if not isinstance(content.get("shapes"), list):
        raise ImageFileError(f"{path}: expected an object of labelme with a list 'shapes'")
    stated = (content.get("imageHeight"), content.get("imageWidth"))
    if None not in stated and stated != shape:
        raise ImageFileError(f"{path}: imageHeight and imageWidth are {stated}, its image has {shape}")
    pieces: dict[Any, list[np.ndarray]] = {}
    others = []
    for position, one in enumerate(content["shapes"]):
        name = f"shape {position + 1}"
        if not isinstance(one, dict):
            raise ImageFileError(f"{path}, {name}: expected an object; found {type(one).__name__}")
        kind = one.get("shape_type") or "polygon"
        if kind not in _AREAS:
            others.append(f"{name} ({kind})")
            continue
        group = one.get("group_id")
        key = (str(one.get("label")), group) if isinstance(group, int) else position
        try:
            pieces.setdefault(key, []).append(_pixels(kind, one, shape))
        except ValueError as error:
            raise ImageFileError(f"{path}, {name}: {error}") from error
    areas = [(f"nucleus {number}", np.unique(np.concatenate(parts))) for number, parts in enumerate(pieces.values(), 1)]
    return areas, others


def _pixels(kind: str, one: Mapping[str, Any], shape: tuple[int, int]) -> np.ndarray:
    points = _points(one.get("points"))
    if kind == "polygon":
        return fill([points], shape)
    if kind == "rectangle" and len(points) == 4:
        return fill([points], shape)
    if len(points) != 2:
        raise ValueError(f"a {kind} has two points; found {len(points)}")
    (x1, y1), (x2, y2) = points
    if kind == "circle":
        radius = math.hypot(x2 - x1, y2 - y1)
        return fill_ellipse((x1, y1), (radius, radius), 0.0, shape)
    if kind == "rectangle":
        return fill([np.array([(x1, y1), (x2, y1), (x2, y2), (x1, y2)])], shape)
    return _mask_pixels(one.get("mask"), round(float(y1)), round(float(x1)), shape)


def _points(points: Any) -> np.ndarray:
    found = points if isinstance(points, list) else []
    if not found or not all(_is_point(point) for point in found):
        raise ValueError("expected a list of points, each x and y")
    return np.array(found, np.float64)


def _is_point(point: Any) -> bool:
    return isinstance(point, list) and len(point) == 2 and all(map(is_coordinate, point))


def _mask_pixels(encoded: Any, top: int, left: int, shape: tuple[int, int]) -> np.ndarray:
    """Returns the pixels of a mask, an image in base64 whose upper left pixel is at (top, left)."""
    try:
        data = base64.b64decode(encoded or "", validate=True)
        mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    except (binascii.Error, TypeError, ValueError, cv2.error) as error:
        raise ValueError(f"the mask is no image in base64 ({error})") from error
    if mask is None:
        raise ValueError("the mask is no image in base64")
    y, x = np.nonzero(mask)
    y, x = y + top, x + left
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    return np.sort(y[inside] * shape[1] + x[inside])
