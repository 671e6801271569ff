"""Matching of detections with ground truth, and average precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from mrcnn import boxes as box_math


def trim_zeros(x: np.ndarray) -> np.ndarray:
    """Removes rows of zeros, which pad arrays to a fixed size.

    Args:
        x: `[rows, columns]`.

    Returns:
        `[rows', columns]`.

    Raises:
        ValueError: The array has another number of dimensions.

    Examples:
        >>> trim_zeros(np.array([[1, 2, 3, 4], [0, 0, 0, 0]])).tolist()
        [[1, 2, 3, 4]]
    """
    if x.ndim != 2:
        raise ValueError(f"trim_zeros needs an array of two dimensions. Received: shape {x.shape}")
    return x[np.any(x != 0, axis=1)]


def compute_overlaps_masks(masks1: np.ndarray, masks2: np.ndarray) -> np.ndarray:
    """Computes the intersection over union (IoU) of every pair of masks.

    The intersections are one product of sparse matrices (pixels x instances), so that the work follows the number of
    foreground pixels rather than the square of the number of instances.

    Args:
        masks1: `[H, W, N]`; values above 0.5 belong to the instance.
        masks2: `[H, W, M]`, with the same height and width.

    Returns:
        float32 `[N, M]` in 0..1. Two empty masks have IoU 0.

    Raises:
        ValueError: The masks differ in height or width.

    Examples:
        >>> first, second = np.zeros((4, 4, 1)), np.zeros((4, 4, 2))
        >>> first[:2], second[:2, :2, 0], second[2:, :, 1] = 1, 1, 1
        >>> compute_overlaps_masks(first, second).tolist()
        [[0.5, 0.0]]
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
    """Builds the int32 matrix `[H * W, N]` with ones where pixels belong to instances."""
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
    """Matches every prediction, best score first, with the free instance of its class that it overlaps most.

    Rows of zeros at the end of the boxes are padding and are ignored.

    Args:
        gt_boxes: `[M, 4]` pixels.
        gt_class_ids: int `[M]`.
        gt_masks: `[H, W, M]`.
        pred_boxes: `[N, 4]` pixels.
        pred_class_ids: int `[N]`.
        pred_scores: float `[N]`.
        pred_masks: `[H, W, N]`.
        iou_threshold: Minimum mask IoU of a match, 0 to 1.
        score_threshold: Second minimum of the mask IoU (not of `pred_scores`), as in the lineage.

    Returns:
        gt_match: float `[M]`, index of each ground-truth instance's prediction, or -1.
        pred_match: float `[N]`, index of each prediction's ground-truth instance, or -1.
        overlaps: float32 `[N, M]`, IoU of the masks.
        All three count predictions by descending score.
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
    """Computes the average precision of one image at one IoU threshold.

    The area under the precision-recall curve with precision made monotone (Everingham et al. 2010, section 4.2; at all
    points, as from VOC 2010 on).

    Args:
        gt_boxes: `[M, 4]` pixels.
        gt_class_ids: int `[M]`.
        gt_masks: `[H, W, M]`.
        pred_boxes: `[N, 4]` pixels.
        pred_class_ids: int `[N]`.
        pred_scores: float `[N]`.
        pred_masks: `[H, W, N]`.
        iou_threshold: Minimum mask IoU of a correct prediction, 0 to 1.

    Returns:
        mAP: Average precision in 0..1; 0 without ground truth or without predictions.
        precisions: `[N + 2]`, from the highest score to the lowest, with a value before and after.
        recalls: `[N + 2]`, likewise, from 0 to 1.
        overlaps: float32 `[N, M]`, IoU of the masks, predictions by descending score.

    Examples:
        >>> masks = np.zeros((8, 8, 2), bool)
        >>> masks[:3, :3, 0] = masks[5:, 5:, 1] = True
        >>> boxes, classes = np.array([[0, 0, 3, 3], [5, 5, 8, 8]]), np.array([1, 1])
        >>> found = boxes[:1], classes[:1], np.array([0.9]), masks[..., :1]
        >>> mean_ap, precisions, recalls, overlaps = compute_ap(boxes, classes, masks, *found)
        >>> float(mean_ap), overlaps.tolist()
        (0.5, [[1.0, 0.0]])
    """
    gt_match, pred_match, overlaps = compute_matches(
        gt_boxes, gt_class_ids, gt_masks, pred_boxes, pred_class_ids, pred_scores, pred_masks, iou_threshold
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
    """Averages `compute_ap` over IoU thresholds (as COCO does over 0.5, 0.55, …, 0.95).

    Args:
        gt_box: `[M, 4]` pixels.
        gt_class_id: int `[M]`.
        gt_mask: `[H, W, M]`.
        pred_box: `[N, 4]` pixels.
        pred_class_id: int `[N]`.
        pred_score: float `[N]`.
        pred_mask: `[H, W, N]`.
        iou_thresholds: Mask IoU thresholds, 0 to 1; None for 0.5, 0.55, …, 0.95.
        verbose: 1 prints the value at each threshold and the mean.

    Returns:
        Mean average precision in 0..1.
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
    """Computes the share of ground-truth boxes that are the best match of a predicted box.

    Args:
        pred_boxes: `[N, 4]` pixels.
        gt_boxes: `[M, 4]` pixels.
        iou: Minimum IoU of a predicted box that counts, 0 to 1.

    Returns:
        recall: Share in 0..1; 1 without ground truth, as there is nothing to miss.
        positive_ids: int `[P]`, indices of the predicted boxes that reach `iou`.
    """
    if len(gt_boxes) == 0:
        return 1.0, np.zeros(0, np.intp)
    overlaps = box_math.iou_matrix(pred_boxes, gt_boxes)
    positive_ids = np.flatnonzero(overlaps.max(axis=1) >= iou)
    matched = np.unique(overlaps[positive_ids].argmax(axis=1))
    return len(matched) / len(gt_boxes), positive_ids
