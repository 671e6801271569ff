"""Matching of detections with ground truth, and the average precision that follows from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from mrcnn import boxes as box_math


def trim_zeros(x: np.ndarray) -> np.ndarray:
    """Removes the rows that are all zeros, which pad arrays to a fixed size.

    Args:
        x: `[rows, columns]`.

    Returns:
        `[rows', columns]`.
    """
    if x.ndim != 2:
        raise ValueError(f"trim_zeros needs an array of two dimensions. Received: shape {x.shape}")
    return x[np.any(x != 0, axis=1)]


def compute_overlaps_masks(masks1: np.ndarray, masks2: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair of masks.

    The intersections are one product of sparse matrices (pixels x instances), so that the work follows the
    pixels that belong to something rather than the square of the number of instances.

    Args:
        masks1: `[H, W, N]`; values above 0.5 belong to the instance.
        masks2: `[H, W, M]`, the same height and width.

    Returns:
        float32 `[N, M]` in 0..1. Two empty masks have IoU 0.

    Raises:
        ValueError: The masks differ in height or width.
    """
    if masks1.shape[-1] == 0 or masks2.shape[-1] == 0:
        return np.zeros((masks1.shape[-1], masks2.shape[-1]), np.float32)
    if masks1.shape[:-1] != masks2.shape[:-1]:
        raise ValueError(
            f"Masks must have one height and width (mini masks need `expand_mask` first). "
            f"Received: masks1.shape={masks1.shape}, masks2.shape={masks2.shape}"
        )
    first, second = _sparse_masks(masks1), _sparse_masks(masks2)
    intersections = (first.T @ second).toarray().astype(np.float32)
    area1 = np.bincount(first.indices, minlength=first.shape[1]).astype(np.float32)
    area2 = np.bincount(second.indices, minlength=second.shape[1]).astype(np.float32)
    union = area1[:, None] + area2[None, :] - intersections
    return intersections / np.maximum(union, 1)


def _sparse_masks(masks: np.ndarray) -> sparse.csr_matrix:
    """int32 matrix `[H * W, N]` with a one where a pixel belongs to an instance."""
    count = masks.shape[-1]
    pixel_count = masks.shape[0] * masks.shape[1]
    # One flat search: NumPy finds the non-zeros of one axis several times faster than those of two.
    pixels, instances = np.divmod(np.flatnonzero(masks if masks.dtype == bool else masks > 0.5), count)
    starts = np.concatenate([[0], np.cumsum(np.bincount(pixels, minlength=pixel_count))])
    ones = np.ones(len(pixels), np.int32)
    return sparse.csr_matrix((ones, instances, starts), shape=(pixel_count, count))


def compute_matches(
    gt_boxes: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_masks: np.ndarray,
    pred_boxes: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    pred_masks: np.ndarray,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gives every prediction, best score first, the free ground-truth instance of its class it overlaps most.

    Rows of zeros at the end of the boxes are padding and are ignored.

    Args:
        gt_boxes: `[M, 4]` pixels.
        gt_class_ids: int `[M]`.
        gt_masks: `[H, W, M]`.
        pred_boxes: `[N, 4]` pixels.
        pred_class_ids: int `[N]`.
        pred_scores: float `[N]`.
        pred_masks: `[H, W, N]`.
        iou_threshold: Mask IoU from which a pair can match.
        score_threshold: As in the lineage, a second lower bound on the mask IoU, not on `pred_scores`.

    Returns:
        gt_match: float `[M]`, for each ground-truth instance the index of its prediction, or -1.
        pred_match: float `[N]`, for each prediction the index of its ground-truth instance, or -1.
        overlaps: float32 `[N, M]`, IoU of the masks.
        Predictions are counted in the order of descending score in all three.
    """
    gt_boxes = trim_zeros(gt_boxes)
    gt_masks = gt_masks[..., : gt_boxes.shape[0]]
    pred_boxes = trim_zeros(pred_boxes)
    order = np.argsort(-np.asarray(pred_scores)[: pred_boxes.shape[0]], kind="stable")
    pred_class_ids = np.asarray(pred_class_ids)[order]
    overlaps = compute_overlaps_masks(pred_masks[..., order], gt_masks)

    gt_match = np.full(gt_boxes.shape[0], -1.0)
    pred_match = np.full(pred_boxes.shape[0], -1.0)
    lowest = max(iou_threshold, score_threshold)
    for i, row in enumerate(overlaps):
        same_class = gt_class_ids[: len(row)] == pred_class_ids[i]
        candidates = np.flatnonzero((row >= lowest) & same_class & (gt_match < 0))
        if candidates.size:
            j = candidates[np.argmax(row[candidates])]
            gt_match[j] = i
            pred_match[i] = j
    return gt_match, pred_match, overlaps


def compute_ap(
    gt_boxes: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_masks: np.ndarray,
    pred_boxes: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    pred_masks: np.ndarray,
    iou_threshold: float = 0.5,
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """Average precision of one image at one IoU threshold: the area under the precision-recall curve, precision
    made monotone (Everingham et al. 2010, section 4.2; all points as from VOC 2010 on).

    Args:
        gt_boxes: `[M, 4]` pixels.
        gt_class_ids: int `[M]`.
        gt_masks: `[H, W, M]`.
        pred_boxes: `[N, 4]` pixels.
        pred_class_ids: int `[N]`.
        pred_scores: float `[N]`.
        pred_masks: `[H, W, N]`.
        iou_threshold: Mask IoU from which a prediction counts as correct.

    Returns:
        mAP: Average precision in 0..1; 0 without ground truth or without predictions.
        precisions: `[N + 2]`, from the highest score to the lowest, with a value before and after.
        recalls: `[N + 2]`, likewise, from 0 to 1.
        overlaps: float32 `[N, M]`, IoU of the masks, predictions by descending score.
    """
    gt_match, pred_match, overlaps = compute_matches(
        gt_boxes,
        gt_class_ids,
        gt_masks,
        pred_boxes,
        pred_class_ids,
        pred_scores,
        pred_masks,
        iou_threshold,
    )
    correct = np.cumsum(pred_match > -1)
    precisions = correct / (np.arange(len(pred_match)) + 1)
    recalls = correct.astype(np.float32) / max(len(gt_match), 1)
    precisions = np.concatenate([[0], precisions, [0]])
    recalls = np.concatenate([[0], recalls, [1]])
    precisions = np.maximum.accumulate(precisions[::-1])[::-1]
    return np.sum(np.diff(recalls) * precisions[1:]), precisions, recalls, overlaps


def compute_ap_range(
    gt_box: np.ndarray,
    gt_class_id: np.ndarray,
    gt_mask: np.ndarray,
    pred_box: np.ndarray,
    pred_class_id: np.ndarray,
    pred_score: np.ndarray,
    pred_mask: np.ndarray,
    iou_thresholds: Sequence[float] | None = None,
    verbose: int = 1,
) -> float:
    """Mean of `compute_ap` over IoU thresholds.

    Args:
        gt_box: `[M, 4]` pixels.
        gt_class_id: int `[M]`.
        gt_mask: `[H, W, M]`.
        pred_box: `[N, 4]` pixels.
        pred_class_id: int `[N]`.
        pred_score: float `[N]`.
        pred_mask: `[H, W, N]`.
        iou_thresholds: None for 0.5, 0.55, ... 0.95.
        verbose: 1 prints the value at each threshold and the mean.

    Returns:
        The mean in 0..1.
    """
    thresholds = np.arange(0.5, 1.0, 0.05) if iou_thresholds is None else iou_thresholds
    values = []
    for threshold in thresholds:
        value, *_ = compute_ap(gt_box, gt_class_id, gt_mask, pred_box, pred_class_id, pred_score, pred_mask, threshold)
        values.append(value)
        if verbose:
            print(f"AP @{threshold:.2f}:\t {value:.3f}")
    mean = np.mean(values)
    if verbose:
        print(f"AP @{thresholds[0]:.2f}-{thresholds[-1]:.2f}:\t {mean:.3f}")
    return mean


def compute_recall(pred_boxes: np.ndarray, gt_boxes: np.ndarray, iou: float) -> tuple[float, np.ndarray]:
    """Share of ground-truth boxes that are the best match of some predicted box.

    Args:
        pred_boxes: `[N, 4]` pixels.
        gt_boxes: `[M, 4]` pixels.
        iou: IoU from which a predicted box counts.

    Returns:
        recall: In 0..1; 1 without ground truth, as there is nothing to miss.
        positive_ids: int `[P]`, the predicted boxes that reach `iou`.
    """
    if len(gt_boxes) == 0:
        return 1.0, np.zeros(0, np.intp)
    overlaps = box_math.iou_matrix(pred_boxes, gt_boxes)
    positive_ids = np.flatnonzero(overlaps.max(axis=1) >= iou)
    matched = np.unique(overlaps[positive_ids].argmax(axis=1))
    return len(matched) / len(gt_boxes), positive_ids
