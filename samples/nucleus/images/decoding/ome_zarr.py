"""OME-Zarr images (OME-NGFF 0.4 and 0.5), read by zarr, which the extra `zarr` installs."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nucleus.images.decoding.array import AXES, ArrayImage
from nucleus.images.decoding.base import ImageFileError, Meaning
from nucleus.images.decoding.metadata import MICROMETRES, SQUARE_WITHIN
from nucleus.images.decoding.planes import COLOURS, Planes

_log = logging.getLogger(__name__)
SUFFIX = ".zarr"
_SOURCE = "OME-Zarr"
_LONG_UNITS = {
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
    "angstrom": 1e-4,
}
_COLOUR_NAMES = (COLOURS, ("r", "g", "b"))
_COLOUR_CODES = ("FF0000", "00FF00", "0000FF")


def is_zarr(path: Path) -> bool:
    """Returns True if a path is a folder that zarr reads."""
    return path.is_dir() and any((path / name).is_file() for name in ("zarr.json", ".zgroup", ".zarray"))


def open_zarr(path: Path, meaning: Meaning, planes: Planes) -> ArrayImage:
    """Opens an OME-Zarr image.

    Channels of 8 bits that the metadata call red, green and blue, or show in these colours, are a colour image. A
    warning counts chunks that are not stored: writers leave out empty ones, and an incomplete copy lacks others.

    Args:
        path: The folder.
        meaning: Use of the pixels.
        planes: Choice of the scene, where the folder holds several.

    Raises:
        ImageFileError: zarr is missing, the folder is no image or damaged, or none of its scenes is chosen.
    """
    try:
        import zarr
    except ImportError as error:
        raise ImageFileError(
            f"is OME-Zarr. Install what reads it: pip install 'keras-nucleus[zarr]' ({error})"
        ) from error
    try:
        node = zarr.open(path, mode="r")
        levels, image = (_open_array if isinstance(node, zarr.Array) else _open_group)(node, meaning, planes)
        _warn_of_gaps(path, levels[0])
        return image
    except (ImageFileError, MemoryError):
        raise
    except Exception as error:  # Damage shows in every step, in errors of many kinds.
        raise ImageFileError(f"the OME-Zarr is incomplete or damaged ({type(error).__name__}: {error})") from error


def _warn_of_gaps(path: Path, array: Any) -> None:
    missing = array.nchunks - array.nchunks_initialized
    if missing:
        _log.warning(
            "%s: %d of its %d chunks are not stored and read as %s: right where they are empty, and not in an "
            "incomplete copy",
            path,
            missing,
            array.nchunks,
            array.fill_value,
        )


def _open_array(array: Any, meaning: Meaning, planes: Planes) -> tuple[list[Any], ArrayImage]:
    if array.ndim != 2:
        raise ImageFileError(f"is a zarr array of shape {array.shape} whose axes nobody states: save it as OME-Zarr")
    planes.choose_scene([""])
    return [array], ArrayImage([array], "YX", colour=meaning != "image", source=_SOURCE)


def _open_group(group: Any, meaning: Meaning, planes: Planes) -> tuple[list[Any], ArrayImage]:
    about = _about(group)
    if "multiscales" not in about:
        # The layout of bioformats2raw: a group for each image.
        names = sorted((name for name in group.group_keys() if name.isdecimal()), key=int)
        scenes = [name for name in names if "multiscales" in _about(group[name])]
        if not scenes:
            raise ImageFileError("is a zarr group without images (no multiscales in its attributes)")
        titles = [str(_about(group[name])["multiscales"][0].get("name") or "") for name in scenes]
        group = group[scenes[planes.choose_scene(titles)]]
        about = _about(group)
    else:
        planes.choose_scene([str(about["multiscales"][0].get("name") or "")])
    scales = about["multiscales"][0]
    levels = [group[str(dataset["path"])] for dataset in scales["datasets"]]
    stated = [axis if isinstance(axis, Mapping) else {"name": axis} for axis in scales["axes"]]
    axes = "".join(str(axis["name"]).upper() for axis in stated)
    if set(axes) - set(AXES) or len(axes) != levels[0].ndim:
        raise ImageFileError(f"the OME-Zarr has axes {axes!r} of shape {levels[0].shape}; expected t, c, z, y and x")
    channels = (about.get("omero") or {}).get("channels") or []
    names = [str(channel.get("label") or "").strip() for channel in channels]
    colour = meaning != "image" or _is_colour(names, channels, levels[0])
    return levels, ArrayImage(levels, axes, names, colour, _pixel_size(scales, stated), source=_SOURCE)


def _about(group: Any) -> Mapping[str, Any]:
    """Returns the attributes that describe images: at the root, or from version 0.5 on below "ome"."""
    attributes = dict(group.attrs)
    found = attributes.get("ome", attributes)
    return found if isinstance(found, Mapping) else {}


def _is_colour(names: Sequence[str], channels: Sequence[Mapping[str, Any]], array: Any) -> bool:
    if len(channels) != 3 or array.dtype != "uint8":
        return False
    codes = tuple(str(channel.get("color") or "").upper() for channel in channels)
    return tuple(name.lower() for name in names) in _COLOUR_NAMES or codes == _COLOUR_CODES


def _pixel_size(scales: Mapping[str, Any], axes: Sequence[Mapping[str, Any]]) -> float | None:
    """Returns the side of a pixel of the largest level in µm; None where it is not known or pixels are not square."""
    sides = [1.0] * len(axes)
    for part in (scales["datasets"][0], scales):
        for change in part.get("coordinateTransformations") or ():
            if change.get("type") == "scale":
                sides = [side * float(factor) for side, factor in zip(sides, change["scale"], strict=True)]
    found = {}
    for axis, side in zip(axes, sides, strict=True):
        unit = str(axis.get("unit") or "")
        found[str(axis["name"]).lower()] = side * {**MICROMETRES, **_LONG_UNITS}.get(unit, math.nan)
    x, y = found.get("x", math.nan), found.get("y", math.nan)
    if not (math.isfinite(x) and math.isfinite(y) and x > 0 and y > 0):
        return None
    return math.sqrt(x * y) if abs(x - y) <= SQUARE_WITHIN * min(x, y) else None
