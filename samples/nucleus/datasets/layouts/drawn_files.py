"""Files in which programs keep the nuclei of one image: ROIs of ImageJ, GeoJSON of QuPath, `_seg.npy`, labelme JSON.

Each kind has an entry in `KINDS`, with which it is read as a label image wherever one is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from nucleus.datasets.layouts.label_files import LABEL_ENDINGS, close_gaps, require_shape
from nucleus.datasets.layouts.labelme_shapes import is_labelme, read_shapes
from nucleus.datasets.layouts.painting import paint_in_order
from nucleus.images.geojson import read_features
from nucleus.images.imagej_roi import read_rois
from nucleus.images.reading import read_labels, read_shape
from nucleus.images.seg_npy import ENDING as SEG_ENDING
from nucleus.images.seg_npy import read_seg_masks

_log = logging.getLogger(__name__)

# Function from a file, the (height, width) of its image and the image, for messages, to int32 [H, W] labels.
_ReadLabels = Callable[[Path, tuple[int, int], object], np.ndarray]
# Function from a file and the (height, width) of its image to (name, indices into the flattened image) of each nucleus,
# and the names of what else is in the file.
_ReadAreas = Callable[[Path, tuple[int, int]], tuple[list[tuple[str, np.ndarray]], list[str]]]


@dataclass(frozen=True)
class DrawnKind:
    """A kind of files with the nuclei of one image.

    Attributes:
        name: Name of the kind, and of the layout.
        suffixes: Suffixes of the files, in lower case.
        endings: Endings of the files' names after that of the image; "" for none.
        read: Function from a file, the (height, width) of its image and the image, for messages, to its label image,
            int32 `[H, W]`; it raises an error for a file that cannot be read.
        fits: Function that returns True if a file of such a name is of the kind by its content.
    """

    name: str
    suffixes: tuple[str, ...]
    endings: tuple[str, ...]
    read: _ReadLabels
    fits: Callable[[Path], bool] = lambda _: True

    def image_name(self, path: Path, images: Collection[str] = ()) -> str | None:
        """Returns the name of the image that a file belongs to by its own name; None for a file of another kind.

        Args:
            path: The file.
            images: Names of images, which may themselves have one of the endings.
        """
        if path.suffix.lower() not in self.suffixes:
            return None
        if "" in self.endings and path.stem in images:
            return path.stem
        # The longest ending of the name counts.
        for ending in sorted(self.endings, key=len, reverse=True):
            if path.stem.lower().endswith(ending) and len(path.stem) > len(ending):
                return path.stem[: len(path.stem) - len(ending)]
        return None


def _paint(read_areas: _ReadAreas, path: Path, shape: tuple[int, int], image: object) -> np.ndarray:
    """Paints the nuclei of a file into a label image, 1...N in their order; a pixel in several belongs to the first."""
    areas, others = read_areas(path, shape)
    if others:
        names = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        _log.warning("%s: %d entries are no nuclei and are left out: %s", path, len(others), names)
    return paint_in_order(shape, areas, image)


def _read_seg(path: Path, shape: tuple[int, int], image: object) -> np.ndarray:
    return require_shape(read_seg_masks(path), path, shape, image)


_ROI_ENDINGS = ("", "_rois", "_roi", "_roiset", "-roiset")
KINDS = {
    kind.name: kind
    for kind in (
        DrawnKind("imagej-roi", (".zip", ".roi"), _ROI_ENDINGS, partial(_paint, read_rois)),
        DrawnKind("geojson", (".geojson",), ("", *LABEL_ENDINGS), partial(_paint, read_features)),
        DrawnKind("seg-npy", (".npy",), (SEG_ENDING.removesuffix(".npy"),), _read_seg),
        DrawnKind("labelme", (".json",), ("",), partial(_paint, read_shapes), is_labelme),
    )
}


@dataclass(frozen=True)
class DrawnFile:
    """The nuclei of one image in a file of a kind in `KINDS`, a `nucleus.datasets.layouts.base.Truth`.

    Attributes:
        path: Path of the file.
        kind: Key of `KINDS`.
    """

    path: Path
    kind: str

    def files(self) -> list[Path]:
        """Returns the file."""
        return [self.path]

    def read(self, image: Path) -> np.ndarray:
        """Reads the label image; see `Truth.read`."""
        return close_gaps(KINDS[self.kind].read(self.path, read_shape(image), image))


def drawn_kind(path: Path) -> DrawnKind | None:
    """Returns the kind of a file by its name; None for a label image or another file."""
    return next((kind for kind in KINDS.values() if kind.image_name(path) is not None), None)


def read_any_labels(path: Path, shape: tuple[int, int], image: object) -> np.ndarray:
    """Reads a label image, or a file of a kind in `KINDS` as one.

    Args:
        path: The file.
        shape: (height, width) of the image.
        image: The image, for messages.

    Returns:
        int32 `[H, W]`, 0 background. A label image keeps its numbers; nuclei of other files count from 1.

    Raises:
        DatasetError: A label image has another size than the image.
        nucleus.images.reading.ImageFileError: The file cannot be read.
    """
    kind = drawn_kind(path)
    if kind is not None:
        return kind.read(path, shape, image)
    return require_shape(read_labels(path), path, shape, image)
