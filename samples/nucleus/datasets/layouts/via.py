"""VGG Image Annotator (https://www.robots.ox.ac.uk/~vgg/software/via/), versions 1 and 2: JSON or CSV.

<root>/via_region_data.json              a file of any name, with the images beside it or in <root>/images
<root>/<part>/via_region_data.json       one file for each part, which is named by its folder

A data set is a folder with such files, or one of them: annotations (JSON or CSV) or a whole project (JSON). Polygons,
rectangles, circles and ellipses are nuclei; points and lines are left out and counted in a warning, and so are images
without a region: VIA lists them although nobody has drawn in them. Coordinates count from the corner of the first
pixel, and a pixel is inside if its centre is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nucleus.datasets.layouts.base import UNKNOWN_MODALITY, DatasetError, Layout, Part, Report, Sample
from nucleus.datasets.layouts.painting import ListedInstances, is_coordinate, named_image
from nucleus.datasets.layouts.tables import CLASSES_FILE, read_header, read_modalities, read_table
from nucleus.images.polygons import fill, fill_ellipse
from nucleus.images.reading import list_folders
from trainkit.reading import read_json

IMAGE_FOLDER = "images"
_PROJECT = "_via_img_metadata"
_COLUMNS = ("filename", "region_shape_attributes")
_NO_AREAS = ("point", "polyline", "line")
_log = logging.getLogger(__name__)


def _recognises(root: Path) -> bool:
    return is_via(root) if root.is_file() else bool(_files(root))


def is_via(path: Path) -> bool:
    """Returns True if a file is one of VIA's, by its column names or keys."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        try:
            return set(_COLUMNS) <= {name.lstrip("#") for name in read_header(path)}
        except DatasetError:  # Some other file with this suffix.
            return False
    if suffix != ".json":
        return False
    data = path.read_bytes()
    return f'"{_PROJECT}"'.encode() in data or (b'"regions"' in data and b'"filename"' in data)


def _files(root: Path) -> dict[str, Path]:
    """Returns the files of VIA in a folder by the names of their parts."""
    if not root.is_dir():
        return {}
    named: dict[str, Path] = {}
    for folder in (root, *list_folders(root)):
        found = [path for path in sorted(folder.iterdir()) if path.is_file() and is_via(path)]
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DatasetError(f"{folder}: {names} are all of VIA; keep one, or name one as the data set")
        if found and folder == root:
            return {"all": found[0]}
        if found:
            named[folder.name] = found[0]
    return named


def _parts(root: Path) -> Mapping[str, Part]:
    files = {"all": root} if root.is_file() else _files(root)
    if not files:
        raise DatasetError(f"{root}: expected a JSON or CSV file of VIA, here or in its folders")
    return {name: partial(_read, path, name) for name, path in files.items()}


def _read(path: Path, part: str, report: Report) -> list[Sample]:
    modalities = read_modalities(path.parent / CLASSES_FILE)
    regions = _regions_of_csv(path) if path.suffix.lower() == ".csv" else _regions_of_json(path)
    samples, empty, others = [], [], 0
    for file, shapes in regions.items():
        areas = [(name, one) for name, one in shapes if one.get("name") not in _NO_AREAS]
        others += len(shapes) - len(areas)
        if not shapes:
            empty.append(file)
            continue
        try:
            image, relative = named_image(str(path), "filename", file, (path.parent, path.parent / IMAGE_FOLDER))
        except DatasetError as error:
            report(error)
            continue
        name = "_".join(relative.with_suffix("").parts)
        truth = ListedInstances(path, tuple(areas), None, region_pixels)
        samples.append(Sample(name, image, truth, part, modalities.get(name, UNKNOWN_MODALITY)))
    if empty:
        _log.warning("%s: %d images have no region and are left out (first: %s)", path, len(empty), empty[0])
    if others:
        _log.warning("%s: %d points and lines are no nuclei and are left out", path, others)
    return samples


_Regions = dict[str, list[tuple[str, Mapping[str, Any]]]]


def _regions_of_json(path: Path) -> _Regions:
    """Returns (name for messages, shape attributes) of the regions by file name."""
    content = read_json(path, "is no JSON file of VIA", DatasetError)
    entries = content.get(_PROJECT, content)
    if not isinstance(entries, dict):
        raise DatasetError(f"{path}: expected an object of VIA, with an entry for each image")
    found: _Regions = {}
    for entry in entries.values():
        file, regions = (entry.get("filename"), entry.get("regions")) if isinstance(entry, dict) else (None, None)
        # Version 1 has an object with numbers as keys, version 2 a list.
        regions = list(regions.values()) if isinstance(regions, dict) else regions
        if not isinstance(file, str) or not isinstance(regions, list):
            raise DatasetError(f"{path}: expected a filename and regions in each entry; found {str(entry)[:60]}")
        if file in found:
            raise DatasetError(f"{path}: the image {file} occurs twice")
        found[file] = [_region(path, f"{file}, region {number}", region) for number, region in enumerate(regions, 1)]
    return found


def _region(path: Path, name: str, region: Any) -> tuple[str, Mapping[str, Any]]:
    attributes = region.get("shape_attributes") if isinstance(region, dict) else None
    if not isinstance(attributes, dict):
        raise DatasetError(f"{path}, {name}: expected an object with shape_attributes")
    return name, attributes


def _regions_of_csv(path: Path) -> _Regions:
    # The first column is called #filename by version 1.
    header = {name.lstrip("#"): name for name in read_header(path)}
    found: _Regions = {}
    for line, row in read_table(path, [header.get(name, name) for name in _COLUMNS]):
        shapes = found.setdefault(row[header["filename"]], [])
        try:
            attributes = json.loads(row["region_shape_attributes"] or "{}")
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{path}, line {line}: region_shape_attributes are no JSON ({error})") from error
        if not isinstance(attributes, dict):
            raise DatasetError(f"{path}, line {line}: expected an object of region_shape_attributes")
        # An image without a region has one line with an empty object.
        if attributes:
            shapes.append((f"line {line}", attributes))
    return found


def region_pixels(attributes: Mapping[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """Returns the pixels of a region of VIA.

    Args:
        attributes: The region's `shape_attributes`.
        shape: (height, width) of the image.

    Returns:
        int64 `[P]` indices into the flattened image.

    Raises:
        ValueError: A number is missing, or the shape is unknown.
    """
    name = attributes.get("name")
    if name == "polygon":
        x, y = _numbers(attributes, "all_points_x"), _numbers(attributes, "all_points_y")
        if len(x) != len(y):
            raise ValueError(f"a polygon has as many x as y; found {len(x)} and {len(y)}")
        return fill([np.stack([x, y], axis=1)], shape)
    if name == "rect":
        x, y, width, height = (_number(attributes, key) for key in ("x", "y", "width", "height"))
        corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
        return fill([np.array(corners)], shape)
    if name == "circle":
        radius = _number(attributes, "r")
        return fill_ellipse((_number(attributes, "cx"), _number(attributes, "cy")), (radius, radius), 0.0, shape)
    if name == "ellipse":
        cx, cy, rx, ry = (_number(attributes, key) for key in ("cx", "cy", "rx", "ry"))
        return fill_ellipse((cx, cy), (rx, ry), _number(attributes, "theta") if "theta" in attributes else 0.0, shape)
    raise ValueError(f"expected a polygon, rect, circle or ellipse; found {str(name)[:40]!r}")


def _number(attributes: Mapping[str, Any], key: str) -> float:
    value = attributes.get(key)
    if not is_coordinate(value):
        raise ValueError(f"expected a number {key!r}; found {str(value)[:40]!r}")
    return float(value)


def _numbers(attributes: Mapping[str, Any], key: str) -> np.ndarray:
    values = attributes.get(key)
    if not isinstance(values, list) or not all(map(is_coordinate, values)):
        raise ValueError(f"expected a list of numbers {key!r}; found {str(values)[:40]!r}")
    return np.array(values, np.float64)


LAYOUT = Layout("via", "JSON or CSV of the VGG Image Annotator beside the images", _recognises, _parts)
