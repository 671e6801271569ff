"""A label image in a file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nucleus.images import read_image, read_labels
from nucleus.labels import relabel_sequential
from nucleus.layouts.base import DatasetError


@dataclass(frozen=True)
class LabelFile:
    """A file whose pixel values are the labels; see `nucleus.layouts.base.Truth`.

    Attributes:
        path: the file, as `nucleus.images.read_labels` takes it. Numbers that are not 1...N become so, in their
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
