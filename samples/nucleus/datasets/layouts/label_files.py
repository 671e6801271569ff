"""Label images in files of their own: their usual names, reading, and a warning of binary masks."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from nucleus.datasets.layouts.base import DatasetError
from nucleus.images.labels import relabel_sequential
from nucleus.images.reading import read_labels, read_shape

# Endings of a label image's name after that of its image; Cellpose writes the first.
LABEL_ENDINGS = ("_cp_masks", "_masks", "_mask", "_labels", "_label")
# Endings of what segmentation programs write about an image, whatever else is in its folder; without upper case.
_WRITTEN_ABOUT = (
    *("_cp_masks", "_masks", "_seg", "_flows", "_outlines", "_cp_output", "_dp", "_cellprob"),
    *("_overlay", "_overlays"),
)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelFile:
    """A file whose pixel values are the labels, a `nucleus.datasets.layouts.base.Truth`.

    Attributes:
        path: Path of the file, for `nucleus.images.reading.read_labels`. Labels are renumbered 1...N in their order.
    """

    path: Path

    def files(self) -> list[Path]:
        """Returns the file."""
        return [self.path]

    def read(self, image: Path) -> np.ndarray:
        """Reads the label image; see `Truth.read`."""
        return close_gaps(require_shape(read_labels(self.path), self.path, read_shape(image), image))


class BinaryMaskWatch:
    """Warns once, of the first label image that looks like a binary mask of several nuclei."""

    def __init__(self) -> None:
        self._warned = False

    def look(self, path: Path, labels: np.ndarray) -> None:
        """Checks a label image.

        Args:
            path: Path of its file, for the warning.
            labels: int32 [H, W].
        """
        if self._warned:
            return
        nuclei = labels > 0
        if not nuclei.any() or (labels[nuclei] != labels.max()).any():
            return
        regions = cv2.connectedComponents(nuclei.astype(np.uint8))[0] - 1
        if regions > 1:
            self._warned = True
            _log.warning(
                "%s: its %d separate regions have one value and count as one nucleus. If they are several, this is a "
                "binary mask: number the nuclei, here and in the other files (of nuclei that do not touch, "
                "scipy.ndimage.label makes a label image)",
                path,
                regions,
            )


def require_shape(labels: np.ndarray, path: Path, shape: tuple[int, ...], image: object) -> np.ndarray:
    """Returns the labels of a file.

    Args:
        labels: The labels.
        path: The file, for the error.
        shape: (height, width) of the image.
        image: The image, for the error.

    Raises:
        DatasetError: The labels have another size.
    """
    if labels.shape != shape:
        raise DatasetError(f"{path}: the label image has shape {labels.shape}, its image {image} has {shape}")
    return labels


def without_label_ending(stem: str) -> str:
    """Returns the name of a label image without its ending, if it has one of `LABEL_ENDINGS`."""
    return next((stem.removesuffix(ending) for ending in LABEL_ENDINGS if stem.endswith(ending)), stem)


def split_by_products(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Separates the images of a folder from what programs write beside them: label images, flows, overlays, ...

    Args:
        paths: The image files of a folder. Names that end as Cellpose's files do (`_masks`, `_cp_masks`, `_seg`,
            `_flows`, `_outlines`, `_cp_output`, `_dP`, `_cellprob`) or in `_overlay` or `_overlays` are by-products;
            other endings of `LABEL_ENDINGS`, which images may have as well, are so where an image of the name without
            it is there.

    Returns:
        The images and the by-products, each in the order of the paths.
    """
    stems = {path.stem for path in paths}

    def is_by_product(path: Path) -> bool:
        about = without_label_ending(path.stem)
        return path.stem.lower().endswith(_WRITTEN_ABOUT) or (about != path.stem and about in stems)

    return [path for path in paths if not is_by_product(path)], [path for path in paths if is_by_product(path)]


def close_gaps(labels: np.ndarray) -> np.ndarray:
    """Renumbers labels 1...N in their order, at a cost that does not grow with the highest label.

    Args:
        labels: int32 [H, W], 0 background, none negative.

    Returns:
        int32 [H, W], labels 1...N.
    """
    if labels.max(initial=0) > labels.size:
        values, which = np.unique(labels, return_inverse=True)
        # Without background, the lowest value is a label and must not become 0.
        return (which.reshape(labels.shape) + (values[0] > 0)).astype(np.int32)
    return relabel_sequential(labels)[0]
