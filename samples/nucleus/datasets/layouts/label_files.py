"""Label images in files of their own: their usual names, reading, and a warning of binary masks."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from nucleus.datasets.layouts.base import DatasetError
from nucleus.images.labels import relabel_sequential
from nucleus.images.reading import read_labels, read_shape

# Endings of a label image's name after that of its image; Cellpose writes the first.
LABEL_ENDINGS = ("_cp_masks", "_masks", "_mask", "_labels", "_label")

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
        labels, shape = read_labels(self.path), read_shape(image)
        if labels.shape != shape:
            raise DatasetError(f"{self.path}: the label image has shape {labels.shape}, its image {image} has {shape}")
        return close_gaps(labels)


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


def without_label_ending(stem: str) -> str:
    """Returns the name of a label image without its ending, if it has one of `LABEL_ENDINGS`."""
    return next((stem.removesuffix(ending) for ending in LABEL_ENDINGS if stem.endswith(ending)), stem)


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
