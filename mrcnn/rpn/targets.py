"""Training targets of the region proposal network: labels of the anchors and deltas to their boxes.

The rules are those of Faster R-CNN (Ren et al. 2015, section 3.1.2) as matterport's Mask_RCNN applies them. An
image of 512 x 512 pixels has 65,472 anchors and may hold hundreds of boxes. Two boxes can only reach an IoU of
0.3 when they are of similar size and close to each other, so IoU is computed for the few cells of the anchor
grid around each ground-truth box, and not for every pair.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from mrcnn import boxes as box_ops
from mrcnn.anchors import anchor_grid_shapes
from mrcnn.config import Config

POSITIVE_IOU = 0.7
NEGATIVE_IOU = 0.3
# Anchors whose IoU with a crowd box reaches this are never negative.
CROWD_IOU = 0.001
# IoU values this close count as equal: ties are geometry and must not depend on rounding.
TIE_TOLERANCE = 1e-9


class _Grid(NamedTuple):
    """Anchors of one shape on one pyramid level, a separable grid.

    Attributes:
        y1: float64 `[rows]`, upper edge of the anchors in each row.
        y2: float64 `[rows]`, lower edge of the anchors in each row.
        x1: float64 `[columns]`, left edge of the anchors in each column.
        x2: float64 `[columns]`, right edge of the anchors in each column.
        first: Index of the anchor in row 0 and column 0.
        row_step: Difference of the indices of neighbouring rows.
        column_step: Difference of the indices of neighbouring columns.
    """

    y1: np.ndarray
    y2: np.ndarray
    x1: np.ndarray
    x2: np.ndarray
    first: int
    row_step: int
    column_step: int


def _grids(anchors: np.ndarray, grid_shapes: Sequence[tuple[int, int, int]]) -> Iterator[_Grid]:
    start = 0
    for rows, columns, per_cell in grid_shapes:
        count = rows * columns * per_cell
        level = anchors[start : start + count].reshape(rows, columns, per_cell, 4)
        for shape in range(per_cell):
            (y1, y2), (x1, x2) = level[:, 0, shape, 0::2].T, level[0, :, shape, 1::2].T
            yield _Grid(y1, y2, x1, x2, start + shape, columns * per_cell, per_cell)
        start += count


def _paired_iou(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Computes the IoU `[N]` of each row of `boxes1` with the same row of `boxes2`, both `[N, 4]`."""
    top_left = np.maximum(boxes1[:, :2], boxes2[:, :2])
    bottom_right = np.minimum(boxes1[:, 2:], boxes2[:, 2:])
    height, width = np.maximum(bottom_right - top_left, 0).T
    intersection = height * width
    return intersection / (box_ops.area(boxes1) + box_ops.area(boxes2) - intersection)


def _concatenate_ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Returns starts[0], starts[0] + 1, ... (lengths[0] of them), then starts[1], ..."""
    ends = np.cumsum(lengths)
    return np.arange(lengths.sum()) + np.repeat(starts - (ends - lengths), lengths)


def _window(
    low: np.ndarray, high: np.ndarray, gt_low: np.ndarray, gt_high: np.ndarray, needed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Finds first cell and number of cells along an axis whose overlap with each box reaches `needed` pixels.

    A cell too many at either end does no harm (its IoU is computed and found too small), a missing one would.
    """
    first = np.searchsorted(high, gt_low + needed - TIE_TOLERANCE)
    after = np.searchsorted(low, gt_high - needed + TIE_TOLERANCE, side="right")
    return first, np.maximum(after - first, 0)


def _near_pairs(anchors: np.ndarray, grids: Sequence[_Grid], boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds all (anchor, box) pairs whose IoU can reach NEGATIVE_IOU, and few others.

    With areas A and G, an intersection I gives IoU >= t only if I >= t / (1 + t) * (A + G); as I is at most
    overlap * min(width of both), the overlap along y must reach I / min(widths), and likewise along x.

    Returns:
        Anchor indices `[P]` and box indices `[P]`.
    """
    gt_y1, gt_x1, gt_y2, gt_x2 = boxes.T
    gt_height, gt_width = gt_y2 - gt_y1, gt_x2 - gt_x1
    anchor_parts, box_parts = [], []
    for grid in grids:
        height, width = grid.y2[0] - grid.y1[0], grid.x2[0] - grid.x1[0]
        needed = NEGATIVE_IOU / (1 + NEGATIVE_IOU) * (height * width + gt_height * gt_width)
        row, rows = _window(grid.y1, grid.y2, gt_y1, gt_y2, needed / np.minimum(width, gt_width))
        column, columns = _window(grid.x1, grid.x2, gt_x1, gt_x2, needed / np.minimum(height, gt_height))
        reachable = needed <= np.minimum(height, gt_height) * np.minimum(width, gt_width) + TIE_TOLERANCE
        box = np.flatnonzero(reachable & (rows > 0) & (columns > 0))
        # One entry a (box, row), then one a (box, row, column).
        row_of = _concatenate_ranges(row[box], rows[box])
        box = np.repeat(box, rows[box])
        first = grid.first + row_of * grid.row_step + column[box] * grid.column_step
        count = columns[box]
        step = _concatenate_ranges(np.zeros_like(count), count)
        anchor_parts.append(np.repeat(first, count) + step * grid.column_step)
        box_parts.append(np.repeat(box, count))
    return np.concatenate(anchor_parts), np.concatenate(box_parts)


def _best_anchors(grids: Sequence[_Grid], boxes: np.ndarray) -> np.ndarray:
    """Finds the anchors with the highest IoU with each box, ties included, however low that IoU is.

    Within one grid all anchors are of one size, and IoU grows with the overlap along y and along x, which depend
    on the row and on the column alone: the best rows and the best columns give the best anchors.
    """
    gt_y1, gt_x1, gt_y2, gt_x2 = boxes.T[..., None]
    overlaps, best_iou = [], np.zeros((len(grids), len(boxes)))
    for index, grid in enumerate(grids):
        overlap_y = np.minimum(grid.y2, gt_y2) - np.maximum(grid.y1, gt_y1)
        overlap_x = np.minimum(grid.x2, gt_x2) - np.maximum(grid.x1, gt_x1)
        best_y, best_x = overlap_y.max(axis=1), overlap_x.max(axis=1)
        intersection = np.maximum(best_y, 0) * np.maximum(best_x, 0)
        area = (grid.y2[0] - grid.y1[0]) * (grid.x2[0] - grid.x1[0])
        best_iou[index] = intersection / (area + box_ops.area(boxes) - intersection)
        overlaps.append((overlap_y >= best_y[:, None] - TIE_TOLERANCE, overlap_x >= best_x[:, None] - TIE_TOLERANCE))
    found = [np.zeros(0, dtype=np.int64)]
    winners = (best_iou > 0) & (best_iou >= best_iou.max(axis=0) - TIE_TOLERANCE)
    for index, box in np.argwhere(winners):
        grid, (is_best_row, is_best_column) = grids[index], overlaps[index]
        rows, columns = np.flatnonzero(is_best_row[box]), np.flatnonzero(is_best_column[box])
        found.append((grid.first + rows[:, None] * grid.row_step + columns * grid.column_step).ravel())
    return np.concatenate(found)


def match_anchors(
    anchors: np.ndarray,
    grid_shapes: Sequence[tuple[int, int, int]],
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
    allowed: np.ndarray | None = None,
) -> np.ndarray:
    """Labels every anchor as object, background or neither (Ren et al. 2015, section 3.1.2).

    An anchor is positive when its IoU with a ground-truth box is at least 0.7, or when no anchor has a higher IoU
    with some box (ties included; so every box that touches an anchor gets one, however low the IoU). It is
    negative when its IoU with every box is below 0.3. Crowd boxes (negative class ids) match no anchor, and an
    anchor that touches one is not negative.

    Args:
        anchors: float64 `[A, 4]` in pixels, in the order of `anchors.generate_pyramid_anchors`.
        grid_shapes: (rows, columns, anchors per cell) of each level, from `anchors.anchor_grid_shapes`.
        gt_class_ids: int `[N]`; negative ids mark crowds.
        gt_boxes: `[N, 4]` in pixels, none of them empty.
        allowed: bool `[A]`, False for anchors that are left out, as if they did not exist: they are neither. By default
            all are allowed.

    Returns:
        int32 `[A]`: 1 positive, -1 negative, 0 neither.

    Raises:
        ValueError: The number of anchors does not fit the grids, or a box is empty.
    """
    expected = sum(rows * columns * per_cell for rows, columns, per_cell in grid_shapes)
    if len(anchors) != expected:
        raise ValueError(
            f"The configuration's anchor grids hold {expected} anchors. Received: anchors of shape {anchors.shape}"
        )
    gt_boxes = np.asarray(gt_boxes, dtype=np.float64).reshape(-1, 4)
    if np.any(gt_boxes[:, 2:] <= gt_boxes[:, :2]):
        bad = gt_boxes[np.any(gt_boxes[:, 2:] <= gt_boxes[:, :2], axis=1)][0]
        raise ValueError(f"Ground-truth boxes need a positive height and width. Received: {bad.tolist()}")
    match = np.full(len(anchors), -1, dtype=np.int32)
    crowds = gt_boxes[np.asarray(gt_class_ids) < 0]
    if len(crowds):
        match[box_ops.iou_matrix(anchors, crowds).max(axis=1) >= CROWD_IOU] = 0
    boxes = gt_boxes[np.asarray(gt_class_ids) > 0]
    if not len(boxes):
        return match if allowed is None else np.where(allowed, match, 0)

    grids = list(_grids(anchors, grid_shapes))
    anchor, box = _near_pairs(anchors, grids, boxes)
    if allowed is not None:
        anchor, box = anchor[allowed[anchor]], box[allowed[anchor]]
    iou = _paired_iou(anchors[anchor], boxes[box])
    match[anchor[iou >= NEGATIVE_IOU]] = 0
    match[anchor[iou >= POSITIVE_IOU]] = 1
    best_iou = np.zeros(len(boxes))
    np.maximum.at(best_iou, box, iou)
    match[anchor[(iou >= best_iou[box] - TIE_TOLERANCE) & (best_iou[box] >= NEGATIVE_IOU)]] = 1
    # The pairs above are complete only from NEGATIVE_IOU on: look everywhere for the other boxes.
    others = boxes[best_iou < NEGATIVE_IOU]
    if allowed is None:
        match[_best_anchors(grids, others)] = 1
        return match
    match[_best_allowed(anchors, allowed, others)] = 1
    match[~allowed] = 0
    return match


def _best_allowed(anchors: np.ndarray, allowed: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Finds what `_best_anchors` finds among some of the anchors, which are no whole grids."""
    indices = np.flatnonzero(allowed)
    found = [np.zeros(0, dtype=np.int64)]
    for box in boxes if len(indices) else ():
        iou = box_ops.iou_matrix(anchors[indices], box[None])[:, 0]
        found.append(indices[(iou > 0) & (iou >= iou.max() - TIE_TOLERANCE)])
    return np.concatenate(found)


def _keep_random(match: np.ndarray, value: int, count: int, rng: np.random.Generator) -> int:
    """Turns all but `count` random anchors labelled `value` neutral; returns how many keep it."""
    indices = np.flatnonzero(match == value)
    if len(indices) > count:
        kept = rng.choice(indices, count, replace=False)
        match[indices] = 0
        match[kept] = value
    return min(len(indices), count)


def build_rpn_targets(
    image_shape: Sequence[int],
    anchors: np.ndarray,
    gt_class_ids: np.ndarray,
    gt_boxes: np.ndarray,
    config: Config,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Samples labelled anchors in balance, with the box deltas of the positive ones.

    At most half of RPN_TRAIN_ANCHORS_PER_IMAGE anchors are positive, the rest is filled with negative ones; all
    others are neutral. A positive anchor belongs to the box it overlaps most (the first of equals), also when
    it is positive for being another box's best.

    Args:
        image_shape: (height, width, ...) of the network's input in pixels.
        anchors: float64 `[A, 4]` in pixels, from `anchors.pyramid_anchors(config, image_shape)`.
        gt_class_ids: int `[N]`; negative ids mark crowds.
        gt_boxes: `[N, 4]` in pixels.
        config: Uses RPN_TRAIN_ANCHORS_PER_IMAGE, RPN_INSIDE_ANCHORS, RPN_BBOX_STD_DEV and the settings of the anchors.
        rng: Random generator of the sample; None seeds one from the system.

    Returns:
        rpn_match: int32 `[A]`: 1 positive, -1 negative, 0 neutral.
        rpn_bbox: float32 `[RPN_TRAIN_ANCHORS_PER_IMAGE, 4]`, (dy, dx, log dh, log dw) of the positive anchors in
            their order, divided by RPN_BBOX_STD_DEV; zeros fill the rest.

    Raises:
        ValueError: The anchors are not the configuration's for this image shape, or a box is empty.
    """
    rng = np.random.default_rng() if rng is None else rng
    count = config.RPN_TRAIN_ANCHORS_PER_IMAGE
    inside = None
    if config.RPN_INSIDE_ANCHORS:
        inside = (anchors[:, :2] >= 0).all(axis=1) & (anchors[:, 2:] <= image_shape[:2]).all(axis=1)
    match = match_anchors(anchors, anchor_grid_shapes(config, image_shape), gt_class_ids, gt_boxes, inside)
    positives = _keep_random(match, 1, count // 2, rng)
    _keep_random(match, -1, count - positives, rng)

    deltas = np.zeros((count, 4), dtype=np.float32)
    chosen = anchors[match == 1]
    if len(chosen):
        boxes = np.asarray(gt_boxes, dtype=np.float64)[np.asarray(gt_class_ids) > 0]
        nearest = boxes[np.argmax(box_ops.iou_matrix(chosen, boxes), axis=1)]
        deltas[: len(chosen)] = box_ops.encode(chosen, nearest) / config.RPN_BBOX_STD_DEV
    return match, deltas
