"""Files in the formats of microscopes (CZI, ND2, LIF), read by bioio, which the extra `formats` installs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from nucleus.images.decoding.array import AXES, ArrayImage
from nucleus.images.decoding.base import ImageFileError, Meaning
from nucleus.images.decoding.metadata import SQUARE_WITHIN
from nucleus.images.decoding.planes import Planes

FORMATS = {"CZI": b"ZISRAWFILE", "ND2": b"\xda\xce\xbe\x0a", "LIF": b"\x70\x00\x00\x00"}
# A LIF has this byte behind the length of its header.
_LIF_MARK = 0x2A


def find_format(head: bytes) -> str | None:
    """Returns the key of `FORMATS` to which a file belongs; None for another format.

    Args:
        head: The file's first 16 bytes.
    """
    found = next((name for name, signature in FORMATS.items() if head.startswith(signature)), None)
    return None if found == "LIF" and head[8:9] != bytes([_LIF_MARK]) else found


def open_bio(path: Path, name: str, meaning: Meaning, planes: Planes) -> ArrayImage:
    """Opens a scene of a file.

    Args:
        path: The file.
        name: Format of the file, a key of `FORMATS`.
        meaning: Use of the pixels.
        planes: Choice of the scene.

    Raises:
        ImageFileError: bioio or its reader of the format is missing, the file cannot be read, or none of its scenes is
            chosen.
    """
    if meaning != "image":
        raise ImageFileError(f"a {name} file holds images, no labels: save labels as PNG or TIFF")
    try:
        from bioio import BioImage
    except ImportError as error:
        raise ImageFileError(f"is a {name} file. {_ADVICE} ({error})") from error
    try:
        return _open(BioImage, path, name, planes)
    except (ImageFileError, MemoryError):
        raise
    except Exception as error:  # Readers of other packages fail in their own ways.
        if type(error).__name__ == "UnsupportedFileFormatError":
            raise ImageFileError(f"is a {name} file that bioio cannot read here. {_ADVICE} ({error})") from error
        raise ImageFileError(f"the {name} file is truncated or damaged ({type(error).__name__}: {error})") from error


_ADVICE = "Install what reads it: pip install 'keras-nucleus[formats]'"


def _open(bio_image: Any, path: Path, name: str, planes: Planes) -> ArrayImage:
    image = bio_image(path)
    scenes = [str(scene) for scene in image.scenes]
    image.set_scene(planes.choose_scene(scenes))
    axes, data = image.dims.order, image.dask_data
    others = {axis: size for axis, size in zip(axes, data.shape, strict=True) if axis not in AXES and size > 1}
    if others:
        raise ImageFileError(f"holds axes of an unknown meaning: {', '.join(f'{k} ({v})' for k, v in others.items())}")
    data = data[tuple(slice(None) if axis in AXES else 0 for axis in axes)]
    kept = "".join(axis for axis in axes if axis in AXES)
    sizes = dict(zip(kept, data.shape, strict=True))
    if sizes.get("S", 3) not in (3, 4):
        raise ImageFileError(f"holds {sizes['S']} samples a pixel, which are no colours; save the one that is meant")
    names = [str(name).strip() for name in image.channel_names or ()]
    if "S" in kept and sizes.get("C", 1) > 1:
        listed = ", ".join(f"{number} {name}" for number, name in enumerate(names, start=1))
        raise ImageFileError(f"holds {sizes['C']} channels of colours each ({listed}): save the one that is meant")
    names = None if "S" in kept else names
    return ArrayImage([data], kept, names, pixel_size=_pixel_size(image), source=f"{name} file")


def _pixel_size(image: Any) -> float | None:
    """Returns the side of a pixel in µm; None where it is not known or pixels are not square to 1 %."""
    y, x = image.physical_pixel_sizes.Y, image.physical_pixel_sizes.X
    if not x or not y or not (math.isfinite(x) and math.isfinite(y)) or x < 0 or y < 0:
        return None
    return math.sqrt(x * y) if abs(x - y) <= SQUARE_WITHIN * min(x, y) else None
