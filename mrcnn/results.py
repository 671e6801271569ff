"""Results of a detection: boxes with small masks, enlarged to the image's size only on request."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrcnn import boxes as box_ops
from mrcnn.masks import resize_mask_probabilities


@dataclass(frozen=True)
class Instances:
    """Objects found in one image, by descending score.

    Attributes:
        boxes: int32 `[N, 4]`, (y1, x1, y2, x2) in pixels of the original image.
        class_ids: int32 `[N]`, from 1 on.
        scores: float32 `[N]` in 0..1, descending.
        mask_probabilities: float32 `[N, h, w]` in 0..1, each filling its box.
        image_shape: (height, width) of the original image.
        mask_threshold: Probability from which a pixel belongs to an object.
        limit_reached: True where the network found as many objects as DETECTION_MAX_INSTANCES allows, so that there may
            be more in the image.
    """

    boxes: np.ndarray
    class_ids: np.ndarray
    scores: np.ndarray
    mask_probabilities: np.ndarray
    image_shape: tuple[int, int]
    mask_threshold: float = 0.5
    limit_reached: bool = False

    def __len__(self) -> int:
        return len(self.boxes)

    def crop(self, index: int) -> np.ndarray:
        """Returns the mask of object `index` inside its box, bool `[y2 - y1, x2 - x1]`."""
        return self.crop_probabilities(index) >= self.mask_threshold

    def crop_probabilities(self, index: int) -> np.ndarray:
        """Returns the mask probabilities of object `index` inside its box, float32 `[y2 - y1, x2 - x1]` in 0..1."""
        y1, x1, y2, x2 = self.boxes[index]
        return resize_mask_probabilities(self.mask_probabilities[index], (y2 - y1, x2 - x1))

    def masks(self) -> np.ndarray:
        """Returns the masks at image size, bool `[H, W, N]`: 300 objects in 1024 x 1024 pixels take 300 MB."""
        full = np.zeros((*self.image_shape, len(self)), dtype=bool)
        for index, (y1, x1, y2, x2) in enumerate(self.boxes):
            full[y1:y2, x1:x2, index] = self.crop(index)
        return full


def unmold_detections(
    detections: np.ndarray,
    mask_probabilities: np.ndarray,
    original_shape: tuple[int, ...],
    molded_shape: tuple[int, ...],
    window: np.ndarray,
    mask_threshold: float = 0.5,
    aligned: bool = False,
) -> Instances:
    """Maps one image's detections back to the coordinates of the original image.

    The lineage lays the centres of the first and the last pixel of the network's input on those of the original. Of an
    enlarged image that moves the edges of boxes by up to half a pixel, by as much as the network's input is long, so
    that equal objects get other boxes elsewhere. With `aligned` every edge stays where it is in the picture.

    Args:
        detections: float `[D, 6]`: normalised box, class id, score; rows of zeros at the end, if any. D is
            DETECTION_MAX_INSTANCES.
        mask_probabilities: float `[D', h, w, K]` in 0..1, D' at least the number of detections.
        original_shape: (height, width, …) of the image before resizing.
        molded_shape: (height, width, …) of the network's input.
        window: (y1, x1, y2, x2) of the image inside the network's input, in pixels; the rest is padding.
        mask_threshold: Probability from which a pixel belongs to an object.
        aligned: True for a network with ROI_ALIGNED; False for the lineage's coordinates.

    Returns:
        The detections; those whose box has no area are dropped.
    """
    count = detection_count(detections)
    class_ids = detections[:count, 4].astype(np.int32)
    masks = mask_probabilities[np.arange(count), :, :, class_ids]
    unmold = _unmold_edges if aligned else _unmold_centres
    boxes = unmold(detections[:count, :4], original_shape[:2], molded_shape[:2], np.asarray(window))
    solid = box_ops.area(boxes) > 0
    return Instances(
        boxes[solid],
        class_ids[solid],
        detections[:count, 5][solid].astype(np.float32),
        masks[solid].astype(np.float32),
        (int(original_shape[0]), int(original_shape[1])),
        mask_threshold,
        limit_reached=count == len(detections),
    )


def detection_count(detections: np.ndarray) -> int:
    """Counts the rows of detections `[D, 6]` before the padding."""
    empty = np.flatnonzero(detections[:, 4] == 0)
    return int(empty[0]) if len(empty) else len(detections)


def _unmold_centres(
    boxes: np.ndarray, original: tuple[int, int], molded: tuple[int, int], window: np.ndarray
) -> np.ndarray:
    """Returns normalised boxes in pixels of the original, int32 `[D, 4]`, by the centres of the outermost pixels."""
    top, left, bottom, right = box_ops.normalize(window, molded)
    shift = np.array([top, left, top, left])
    scale = np.array([bottom - top, right - left, bottom - top, right - left])
    return box_ops.denormalize((boxes - shift) / scale, original)


def _unmold_edges(
    boxes: np.ndarray, original: tuple[int, int], molded: tuple[int, int], window: np.ndarray
) -> np.ndarray:
    """Returns normalised boxes in pixels of the original, int32 `[D, 4]`, by the edges of the outermost pixels."""
    extent = np.tile(np.asarray(molded, np.float64), 2) - 1
    edges = boxes * extent + [0, 0, 1, 1] - np.tile(window[:2], 2)
    factor = np.asarray(original, np.float64) / (window[2:] - window[:2])
    return np.around(edges * np.tile(factor, 2)).astype(np.int32)
