"""RoIs and targets of the heads in NumPy, for training the heads without the RPN and for notebooks.

Normal training computes both inside the network (`targets.DetectionTargets`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrcnn import boxes as box_ops
from mrcnn.config import Config
from mrcnn.masks import expand_mask, resize_mask_probabilities
from mrcnn.roi_heads.targets import POSITIVE_IOU

# Share of the random RoIs that lie around ground-truth boxes.
NEAR_SHARE = 0.9


def _random_pairs(low: np.ndarray, high: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draws two different integers of low..high (both included), the smaller first, all pairs equally likely."""
    first = rng.integers(low, high, endpoint=True)
    second = rng.integers(low, high)
    second += second >= first
    return np.minimum(first, second), np.maximum(first, second)


def generate_random_rois(
    image_shape: Sequence[int],
    count: int,
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Draws random RoIs such as a region proposal network might propose.

    Nine of ten lie in the neighbourhoods of the ground-truth boxes (each box enlarged by its own height and width
    on every side), equally many for each box; the others lie anywhere, as all do in an image without boxes.

    Args:
        image_shape: (height, width, ...) in pixels.
        count: Number of RoIs.
        gt_class_ids: int `[N]`; zeros are padding.
        gt_boxes: int `[N, 4]` in pixels.
        rng: Random generator; None seeds one from the system.

    Returns:
        int32 `[count, 4]` in pixels, inside the image and not empty.
    """
    rng = np.random.default_rng() if rng is None else rng
    height, width = int(image_shape[0]), int(image_shape[1])
    boxes = np.asarray(gt_boxes, dtype=np.int64)[np.asarray(gt_class_ids) != 0]
    per_box = int(NEAR_SHARE * count / len(boxes)) if len(boxes) else 0
    y1, x1, y2, x2 = np.repeat(boxes, per_box, axis=0).T
    near = (
        np.maximum(2 * y1 - y2, 0),
        np.maximum(2 * x1 - x2, 0),
        np.minimum(2 * y2 - y1, height),
        np.minimum(2 * x2 - x1, width),
    )
    anywhere = np.tile([0, 0, height, width], (count - per_box * len(boxes), 1))
    regions = np.concatenate([np.stack(near, axis=1), anywhere])
    top, bottom = _random_pairs(regions[:, 0], regions[:, 2], rng)
    left, right = _random_pairs(regions[:, 1], regions[:, 3], rng)
    return np.stack([top, left, bottom, right], axis=1).astype(np.int32)


def build_detection_targets(
    rpn_rois: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
    gt_masks: np.ndarray,
    config: Config,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Samples RoIs and computes the targets of the heads for them.

    RoIs with an IoU of 0.5 or more with an instance are positive. ROI_POSITIVE_RATIO of the choice are positive
    at most; too few RoIs are filled up with repeated negative ones (positive ones where none is negative).

    Args:
        rpn_rois: int `[N, 4]` in pixels, N from 1 on.
        gt_class_ids: int32 `[G]`, zero where padded.
        gt_boxes: int32 `[G, 4]` in pixels.
        gt_masks: bool `[h, w, G]`, of the image's size, or of MINI_MASK_SHAPE with USE_MINI_MASK.
        config: Uses TRAIN_ROIS_PER_IMAGE, ROI_POSITIVE_RATIO, BBOX_STD_DEV, NUM_CLASSES, MASK_SHAPE,
            USE_MINI_MASK and IMAGE_SHAPE.
        rng: Random generator of the sample; None seeds one from the system.

    Returns:
        rois: `[R, 4]` in pixels, R = TRAIN_ROIS_PER_IMAGE.
        class_ids: int32 `[R]`, 0 for negative RoIs.
        bboxes: float32 `[R, NUM_CLASSES, 4]`, deltas divided by BBOX_STD_DEV, in the row of the RoI's class.
        masks: float32 `[R, *MASK_SHAPE, NUM_CLASSES]` in 0..1, likewise.

    Raises:
        ValueError: There is no RoI or no instance.
    """
    rng = np.random.default_rng() if rng is None else rng
    instances = np.flatnonzero(gt_class_ids > 0)
    if not len(instances) or not len(rpn_rois):
        raise ValueError(
            f"Targets need a RoI and an instance. Received: {len(rpn_rois)} RoIs and {len(instances)} instances"
        )
    iou = box_ops.iou_matrix(rpn_rois.astype(np.float64), gt_boxes[instances].astype(np.float64))
    nearest, best_iou = instances[np.argmax(iou, axis=1)], iou.max(axis=1)
    chosen = _choose_rois(best_iou, config, rng)

    rois, nearest, positive = rpn_rois[chosen], nearest[chosen], np.flatnonzero(best_iou[chosen] >= POSITIVE_IOU)
    class_ids = np.zeros(len(chosen), dtype=np.int32)
    class_ids[positive] = gt_class_ids[nearest[positive]]
    deltas = np.zeros((len(chosen), config.NUM_CLASSES, 4), dtype=np.float32)
    targets = box_ops.encode(rois[positive].astype(np.float64), gt_boxes[nearest[positive]])
    deltas[positive, class_ids[positive]] = targets / config.BBOX_STD_DEV
    masks = np.zeros((len(chosen), *config.MASK_SHAPE, config.NUM_CLASSES), dtype=np.float32)
    for index in positive:
        instance = nearest[index]
        mask = gt_masks[:, :, instance]
        if config.USE_MINI_MASK:
            mask = expand_mask(gt_boxes[[instance]], mask[:, :, None], config.IMAGE_SHAPE)[:, :, 0]
        y1, x1, y2, x2 = rois[index].astype(int)
        masks[index, :, :, class_ids[index]] = resize_mask_probabilities(mask[y1:y2, x1:x2], config.MASK_SHAPE)
    return rois, class_ids, deltas, masks


def _choose_rois(best_iou: np.ndarray, config: Config, rng: np.random.Generator) -> np.ndarray:
    """Returns indices `[TRAIN_ROIS_PER_IMAGE]` of positive RoIs, then of negative ones, then of repeated ones."""
    count = config.TRAIN_ROIS_PER_IMAGE
    positive, negative = np.flatnonzero(best_iou >= POSITIVE_IOU), np.flatnonzero(best_iou < POSITIVE_IOU)
    most = int(count * config.ROI_POSITIVE_RATIO)
    positive = rng.choice(positive, min(most, len(positive)), replace=False)
    negative = rng.choice(negative, min(count - len(positive), len(negative)), replace=False)
    chosen = np.concatenate([positive, negative])
    filling = negative if len(negative) else positive
    return np.concatenate([chosen, rng.choice(filling, count - len(chosen))])
