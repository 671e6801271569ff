"""A label image in a file of its own: its usual names, how it is read, and what it may turn out to be."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from nucleus.datasets.layouts.base import DatasetError
from nucleus.images.labels import relabel_sequential
from nucleus.images.reading import read_image, read_labels

# What follows an image's name in that of its label image; Cellpose writes the first.
LABEL_ENDINGS = ("_cp_masks", "_masks", "_mask", "_labels", "_label")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelFile:
    """A file whose pixel values are the labels; see `nucleus.datasets.layouts.base.Truth`.

    Attributes:
        path: the file, as `nucleus.images.reading.read_labels` takes it. Numbers that are not 1...N become so, in their
            order.
    """

    path: Path

    def files(self) -> list[Path]:
        """See `Truth`."""
        return [self.path]

    def read(self, image: Path) -> np.ndarray:
        """See `Truth`."""
        labels, shape = read_labels(self.path), read_image(image).shape[:2]
        if labels.shape != shape:
            raise DatasetError(f"{self.path}: the label image has shape {labels.shape}, its image {image} has {shape}")
        return close_gaps(labels)


class BinaryMaskWatch:
    """Warns of the first label image that looks like a binary mask of several nuclei, and is silent from then on."""

    def __init__(self) -> None:
        self._told = False

    def look(self, path: Path, labels: np.ndarray) -> None:
        """Looks at a label image.

        Args:
            path: its file, for the warning.
            labels: int32 [H, W].
        """
        if self._told:
            return
        nuclei = labels > 0
        if not nuclei.any() or (labels[nuclei] != labels.max()).any():
            return
        regions = cv2.connectedComponents(nuclei.astype(np.uint8))[0] - 1
        if regions > 1:
            self._told = True
            _log.warning(
                "%s: its %d separate regions have one value and count as one nucleus. If they are several, this is a "
                "binary mask: number the nuclei, here and in the other files (of nuclei that do not touch, "
                "scipy.ndimage.label makes a label image)",
                path,
                regions,
            )


def without_label_ending(stem: str) -> str:
    """The name of the image that a label image's name, without suffix, means; the same where it has no such ending."""
    return next((stem.removesuffix(ending) for ending in LABEL_ENDINGS if stem.endswith(ending)), stem)


def close_gaps(labels: np.ndarray) -> np.ndarray:
    """Numbers labels 1...N in their order, at a cost that does not depend on how high they are.

    Args:
        labels: int32 [H, W], none negative.

    Returns:
        int32 [H, W].
    """
    if labels.max(initial=0) > labels.size:
        values, which = np.unique(labels, return_inverse=True)
        # Without background the lowest value is a label: its rank 0 would make it background.
        return (which.reshape(labels.shape) + (values[0] > 0)).astype(np.int32)
    return relabel_sequential(labels)[0]
