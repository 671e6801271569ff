"""What OME-XML and ImageJ state about a TIFF: names of channels."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import tifffile


def channel_names(
    file: tifffile.TiffFile, series: tifffile.TiffPageSeries, count: int, axes: str, shape: tuple[int, ...]
) -> tuple[str, ...]:
    """Returns the names of a TIFF's channels.

    Args:
        file: The open file.
        series: Its first image.
        count: Number of channels.
        axes: Axes of the sequence of pages, outermost first; "C" for channels.
        shape: Sizes of these axes.

    Returns:
        A name for each channel; "" where OME-XML (Name, else Fluor) and ImageJ's labels have none, or where ImageJ's
        labels are the same for several channels.
    """
    names: list[str] = []
    if series.kind == "ome":
        names = [
            channel.get("Name") or channel.get("Fluor") or "" for channel in _ome_pixels(file).iterfind("{*}Channel")
        ]
    elif series.kind == "imagej":
        labels = (file.imagej_metadata or {}).get("Labels", [])
        if len(labels) == int(np.prod(shape)) and (count == 1 or "C" in axes):
            first = [[channel if axis == "C" else 0 for axis in axes] for channel in range(count)]
            names = [labels[int(np.ravel_multi_index(index, shape)) if index else 0] for index in first]
            names = names if len(set(names)) == count else []
    names = [str(name).strip() for name in names]
    return tuple(names) if len(names) == count else ("",) * count


def _ome_pixels(file: tifffile.TiffFile) -> ElementTree.Element:
    """Returns the element with the description of the first image."""
    found = ElementTree.fromstring(file.ome_metadata).find(".//{*}Image/{*}Pixels")
    return ElementTree.Element("Pixels") if found is None else found
