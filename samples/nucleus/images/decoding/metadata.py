"""Names of channels and size of a pixel, as OME-XML, ImageJ and tags of a TIFF state them."""

from __future__ import annotations

import logging
import math
from xml.etree import ElementTree

import numpy as np
import tifffile

_log = logging.getLogger(__name__)
MICROMETRES = {
    "pm": 1e-6,
    "Å": 1e-4,
    "nm": 1e-3,
    **dict.fromkeys(("µm", "um", "micron", "microns", "micrometer", "micrometers", "micrometre", "micrometres"), 1.0),
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    **dict.fromkeys(("in", "inch", "inches"), 25_400.0),
}
_RESOLUTION_UNITS = {2: "inch", 3: "cm"}
# Resolutions for print (72 dpi are 353 µm, 2,400 dpi 10.6 µm) say nothing of a microscope, in which nuclei fill several
# pixels. Programs write them in these units.
_PRINT_UNITS, _LEAST_FOR_PRINT = ("in", "inch", "inches", "cm"), 10.0
SQUARE_WITHIN = 0.01


def scene_names(file: tifffile.TiffFile) -> list[str]:
    """Returns the names of the separate images of a TIFF; "" for one without a name.

    Args:
        file: The open file.
    """
    if file.is_ome:
        images = _ome_images(file)
        if len(images) == len(file.series):
            return [(image.get("Name") or "").strip() for image in images]
    return [str(series.name or "").strip() for series in file.series]


def channel_names(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries, scene: int, count: int, axes: str, shape: tuple[int, ...]
) -> tuple[str, ...]:
    """Returns the names of a TIFF's channels.

    Args:
        file: The open file.
        series: One of its images.
        scene: The image's index.
        count: Number of channels.
        axes: Axes of the sequence of pages, outermost first; "C" for channels.
        shape: Sizes of these axes.

    Returns:
        A name for each channel; "" where OME-XML (Name, else Fluor) and ImageJ's labels have none, or where ImageJ's
        labels are the same for several channels.
    """
    names: list[str] = []
    if series.kind == "ome":
        channels = _ome_pixels(file, scene).iterfind("{*}Channel")
        names = [channel.get("Name") or channel.get("Fluor") or "" for channel in channels]
    elif series.kind == "imagej":
        labels = (file.imagej_metadata or {}).get("Labels", [])
        if len(labels) == int(np.prod(shape)) and (count == 1 or "C" in axes):
            first = [[channel if axis == "C" else 0 for axis in axes] for channel in range(count)]
            names = [labels[int(np.ravel_multi_index(index, shape)) if index else 0] for index in first]
            names = names if len(set(names)) == count else []
    names = [str(name).strip() for name in names]
    return tuple(names) if len(names) == count else ("",) * count


def _ome_images(file: tifffile.TiffFile) -> list[ElementTree.Element]:
    """Returns the descriptions of all images that have one of their pixels."""
    images = ElementTree.fromstring(file.ome_metadata).iterfind(".//{*}Image")
    return [image for image in images if image.find("{*}Pixels") is not None]


def _ome_pixels(file: tifffile.TiffFile, scene: int) -> ElementTree.Element:
    """Returns the description of an image's pixels; an empty one where it is not known which is the image's."""
    images = _ome_images(file)
    if images and (scene == 0 or len(images) == len(file.series)):
        return images[scene].find("{*}Pixels")
    return ElementTree.Element("Pixels")


def pixel_size(file: tifffile.TiffFile, series: tifffile.TiffPageSeries, scene: int = 0) -> float | None:
    """Returns the side of a pixel.

    PhysicalSizeX and PhysicalSizeY of OME-XML come first, then ImageJ's unit with the resolution tags, then the
    resolution tags with their own unit. Sizes of 10 µm and more that are given by inch or cm are taken for resolutions
    for print.

    Args:
        file: The open file.
        series: One of its images.
        scene: The image's index.

    Returns:
        µm; None where it is not known, or, with a warning, where pixels are not square to 1 %.
    """
    size = _ome_size(file, scene) if series.kind == "ome" else None
    if size is None:
        tags = series.keyframe.tags
        unit = _RESOLUTION_UNITS.get(tags.valueof("ResolutionUnit"), "")
        if series.kind == "imagej":
            unit = _unit((file.imagej_metadata or {}).get("unit", "")) or unit
        size = _size_by_resolution(tags.valueof("XResolution"), tags.valueof("YResolution"), unit)
    if size is None or not all(math.isfinite(side) and side > 0 for side in size):
        return None
    x, y = size
    if abs(x - y) > SQUARE_WITHIN * min(x, y):
        _log.warning("%s: pixels of %g x %g µm are not square, nothing is given in µm", file.filehandle.path, x, y)
        return None
    return math.sqrt(x * y)


def _ome_size(file: tifffile.TiffFile, scene: int) -> tuple[float, float] | None:
    pixels = _ome_pixels(file, scene)
    sides = []
    for axis in "XY":
        length, unit = pixels.get(f"PhysicalSize{axis}"), _unit(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if length is None or unit not in MICROMETRES:
            return None
        sides.append(float(length) * MICROMETRES[unit])
    return sides[0], sides[1]


def _size_by_resolution(x: tuple[int, int] | None, y: tuple[int, int] | None, unit: str) -> tuple[float, float] | None:
    """Converts resolutions, fractions of pixels per unit."""
    if unit not in MICROMETRES or x is None or y is None or 0 in (*x, *y):
        return None
    sides = tuple(MICROMETRES[unit] * below / above for above, below in (x, y))
    return None if unit in _PRINT_UNITS and max(sides) >= _LEAST_FOR_PRINT else sides


def _unit(text: str) -> str:
    """Returns a unit with one way to write the micro sign; ImageJ escapes it."""
    return str(text).strip().replace("\\u00B5", "µ").replace("\N{GREEK SMALL LETTER MU}", "µ")
