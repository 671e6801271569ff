"""GeoJSON as QuPath writes and reads it: nuclei with measurements to features, and features to pixels.

Coordinates are pixels of the whole image, (x, y) from its upper left corner. QuPath's objects are features whose
property `objectType` is detection, cell, annotation, tile, tmaCore or root.
"""

from __future__ import annotations

import json
import math
import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nucleus.images.decoding import ImageFileError
from nucleus.images.polygons import Polygon, fill_all, trace
from trainkit.reading import reading

CLASS = "Nucleus"
_COLOUR = [50, 120, 250]
# Objects that hold others, and never are a nucleus.
_FRAMES = ("tile", "tmaCore", "root")
_DETECTIONS = ("detection", "cell")


def nuclei_as_features(
    labels: np.ndarray, measurements: Mapping[int, Mapping[str, float]], name: str
) -> dict[str, Any]:
    """Describes nuclei as QuPath's detections.

    Args:
        labels: Integer `[H, W]`, label image.
        measurements: Numbers about the nucleus of each label, by their names; those that are not finite are left out.
        name: Name of the image. Ids of the features follow from it and the label, so that equal results are equal
            files.

    Returns:
        A FeatureCollection: a Polygon or MultiPolygon for each label, with holes, called by the number of the label.
    """
    features = []
    for number, polygons in enumerate(trace(labels), start=1):
        if not polygons:
            continue
        closed = [[[*ring.tolist(), ring[0].tolist()] for ring in polygon] for polygon in polygons]
        one = len(closed) == 1
        features.append(
            {
                "type": "Feature",
                "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name}#{number}")),
                "geometry": {
                    "type": "Polygon" if one else "MultiPolygon",
                    "coordinates": closed[0] if one else closed,
                },
                "properties": {
                    "objectType": "detection",
                    "name": str(number),
                    "classification": {"name": CLASS, "color": _COLOUR},
                    "measurements": {
                        key: value for key, value in measurements.get(number, {}).items() if math.isfinite(value)
                    },
                },
            }
        )
    return {"type": "FeatureCollection", "features": features}


def read_features(path: str | os.PathLike, shape: tuple[int, int]) -> tuple[list[tuple[str, np.ndarray]], list[str]]:
    """Reads the nuclei of a GeoJSON file as pixels: those whose centres are inside a polygon.

    Of a cell with a nucleus, the nucleus is read. Where there are detections or cells, annotations are the regions
    around them and no nuclei.

    Args:
        path: A GeoJSON file: a FeatureCollection, a list of features, or one feature.
        shape: (height, width) of the image.

    Returns:
        areas: (name, int64 `[P]` indices into the flattened image) of each nucleus, in the order of the file.
        others: Descriptions of the features that are none: points, lines, tiles, TMA cores, and regions.

    Raises:
        ImageFileError: The file cannot be read, or a feature is malformed, or features are of several planes.
    """
    path = Path(path)
    features = _features(path)
    kinds = [_kind(feature) for feature in features]
    frames = (*_FRAMES, "annotation") if any(kind in _DETECTIONS for kind in kinds) else _FRAMES
    areas, others, planes = [], [], set()
    for position, (feature, kind) in enumerate(zip(features, kinds, strict=True)):
        name = f"feature {position + 1}"
        geometry = feature.get("nucleusGeometry") or feature.get("geometry")
        if kind in frames or not isinstance(geometry, dict) or geometry.get("type") not in ("Polygon", "MultiPolygon"):
            stated = geometry.get("type") if isinstance(geometry, dict) else geometry
            others.append(f"{name} ({kind if kind in frames else str(stated)[:40]})")
            continue
        try:
            areas.append((name, fill_all(_polygons(geometry), shape)))
        except ValueError as error:
            raise ImageFileError(f"{path}, {name}: {error}") from error
        planes.add(json.dumps(geometry.get("plane"), sort_keys=True))
    if len(planes - {"null"}) > 1:
        raise ImageFileError(f"{path}: its objects are of several planes; save those of each in a file of its own")
    return areas, others


def _features(path: Path) -> list[dict]:
    with reading(path, "is no JSON file", ImageFileError):
        content = json.loads(path.read_bytes())
    if isinstance(content, dict) and content.get("type") == "FeatureCollection":
        content = content.get("features")
    elif isinstance(content, dict):
        content = [content]
    if not isinstance(content, list) or not all(
        isinstance(one, dict) and one.get("type") == "Feature" for one in content
    ):
        raise ImageFileError(f"{path}: expected GeoJSON, a FeatureCollection or a list of features")
    return content


def _kind(feature: Mapping[str, Any]) -> str:
    """Returns the type of QuPath's object, "" where a program does not state it."""
    properties = feature.get("properties")
    stated = properties.get("objectType", properties.get("object_type")) if isinstance(properties, dict) else None
    return stated if isinstance(stated, str) else ""


def _polygons(geometry: Mapping[str, Any]) -> Iterable[Polygon]:
    coordinates = geometry.get("coordinates")
    polygons: Any = [coordinates] if geometry["type"] == "Polygon" else coordinates
    if not isinstance(polygons, list) or not all(isinstance(polygon, list) for polygon in polygons):
        raise ValueError("expected lists of coordinates")
    return [[_ring(ring) for ring in polygon] for polygon in polygons]


def _ring(ring: Any) -> np.ndarray:
    if not isinstance(ring, list) or not all(_is_point(point) for point in ring):
        raise ValueError("expected rings of points, each x and y")
    return np.array([point[:2] for point in ring], np.float64).reshape(-1, 2)


def _is_point(point: Sequence) -> bool:
    return (
        isinstance(point, list)
        and len(point) >= 2
        and all(isinstance(number, int | float) and abs(number) < 2**53 for number in point[:2])
    )
