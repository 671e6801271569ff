"""Helpers of matterport's `mrcnn.utils` under their old names and signatures.

Those with a module of their own are re-exported: `boxes`, `anchors`, `masks`, `resizing`, `evaluation`, `dataset`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from mrcnn import boxes as box_math
from mrcnn.anchors import generate_anchors, generate_pyramid_anchors
from mrcnn.dataset import Dataset
from mrcnn.evaluation import (
    compute_ap,
    compute_ap_range,
    compute_matches,
    compute_overlaps_masks,
    compute_recall,
    trim_zeros,
)
from mrcnn.masks import expand_mask, extract_bboxes, minimize_mask, unmold_mask
from mrcnn.resizing import resize, resize_image, resize_mask
from trainkit.download import download

__all__ = [
    "COCO_MODEL_URL",
    "Dataset",
    "apply_box_deltas",
    "batch_slice",
    "box_refinement",
    "box_refinement_graph",
    "compute_ap",
    "compute_ap_range",
    "compute_iou",
    "compute_matches",
    "compute_overlaps",
    "compute_overlaps_masks",
    "compute_recall",
    "denorm_boxes",
    "download_trained_weights",
    "expand_mask",
    "extract_bboxes",
    "generate_anchors",
    "generate_pyramid_anchors",
    "minimize_mask",
    "non_max_suppression",
    "norm_boxes",
    "resize",
    "resize_image",
    "resize_mask",
    "trim_zeros",
    "unmold_mask",
]

# The public weights trained on COCO; their publisher gives no checksum.
COCO_MODEL_URL = "https://github.com/matterport/Mask_RCNN/releases/download/v2.0/mask_rcnn_coco.h5"


def compute_iou(box: np.ndarray, boxes: np.ndarray, box_area: float, boxes_area: np.ndarray) -> np.ndarray:
    """Computes the intersection over union (IoU) of one box with many, whose areas are known.

    Args:
        box: `[4]` as (y1, x1, y2, x2).
        boxes: `[N, 4]`.
        box_area: Area of `box`.
        boxes_area: `[N]`, areas of `boxes`.

    Returns:
        float `[N]` in 0..1; 0 for two boxes without area.

    Examples:
        >>> boxes = np.array([[0, 0, 4, 4], [2, 0, 4, 4], [4, 4, 8, 8]])
        >>> compute_iou(boxes[0], boxes, 16, np.array([16, 8, 16])).tolist()
        [1.0, 0.5, 0.0]
    """
    top_left = np.maximum(box[:2], boxes[:, :2])
    bottom_right = np.minimum(box[2:4], boxes[:, 2:4])
    intersection = np.prod(np.maximum(bottom_right - top_left, 0), axis=1)
    union = box_area + boxes_area - intersection
    return intersection / np.where(union > 0, union, 1)


def compute_overlaps(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Computes the intersection over union (IoU) of every pair of boxes.

    Args:
        boxes1: `[N, 4]` as (y1, x1, y2, x2).
        boxes2: `[M, 4]`.

    Returns:
        float64 `[N, M]` in 0..1.

    Examples:
        >>> compute_overlaps(np.array([[0, 0, 4, 4]]), np.array([[2, 0, 4, 4], [4, 4, 8, 8]])).tolist()
        [[0.5, 0.0]]
    """
    return box_math.iou_matrix(boxes1, boxes2).astype(np.float64, copy=False)


def non_max_suppression(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Selects boxes by descending score, leaving out those that overlap a selected one too much, in NumPy.

    Args:
        boxes: `[N, 4]` as (y1, x1, y2, x2), y2 and x2 exclusive.
        scores: float `[N]`.
        threshold: IoU with a kept box above which a box is suppressed.

    Returns:
        int32 `[K]`, indices of the kept boxes by descending score; of equal scores the earlier comes first.

    Examples:
        >>> boxes = np.array([[0, 0, 10, 10], [0, 1, 10, 11], [20, 20, 30, 30]])
        >>> non_max_suppression(boxes, np.array([0.8, 0.9, 0.7]), threshold=0.5).tolist()
        [1, 2]
    """
    boxes = np.asarray(boxes)
    if boxes.dtype.kind != "f":
        boxes = boxes.astype(np.float32)
    areas = box_math.area(boxes)
    order = np.argsort(-np.asarray(scores), kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        overlaps = compute_iou(boxes[best], boxes[rest], areas[best], areas[rest])
        order = rest[overlaps <= threshold]
    return np.array(kept, np.int32)


def apply_box_deltas(boxes: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Moves and scales boxes (Ren et al. 2015, equation 2).

    Args:
        boxes: `[N, (y1, x1, y2, x2)]`.
        deltas: `[N, (dy, dx, log dh, log dw)]`, shifts relative to the boxes' height and width.

    Returns:
        float32 `[N, 4]`.
    """
    return box_math.decode(boxes.astype(np.float32), np.asarray(deltas, np.float32))


def box_refinement(box: np.ndarray, gt_box: np.ndarray) -> np.ndarray:
    """Computes the deltas that turn boxes into ground-truth boxes (Girshick et al. 2014, appendix C).

    Args:
        box: `[N, 4]`.
        gt_box: `[N, 4]`.

    Returns:
        float32 `[N, (dy, dx, log dh, log dw)]`.

    Examples:
        >>> box_refinement(np.array([[0, 0, 10, 20]]), np.array([[5, 0, 15, 20]])).tolist()
        [[0.5, 0.0, 0.0, 0.0]]
    """
    return box_math.encode(box.astype(np.float32), gt_box.astype(np.float32))


def box_refinement_graph(box: Any, gt_box: Any) -> Any:
    """Computes `box_refinement` with tensors of the Keras backend, inside a graph or outside.

    Args:
        box: Tensor `[N, (y1, x1, y2, x2)]`.
        gt_box: Tensor `[N, 4]` of the boxes that the deltas lead to.

    Returns:
        Tensor `[N, (dy, dx, log dh, log dw)]`.
    """
    return box_math.encode(ops.cast(box, "float32"), ops.cast(gt_box, "float32"))


def norm_boxes(boxes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Turns pixel boxes into normalised ones. In pixels y2 and x2 are exclusive, in normalised coordinates inclusive.

    Args:
        boxes: `[..., (y1, x1, y2, x2)]` in pixels.
        shape: (height, width) of the image.

    Returns:
        float32 `[..., 4]`, 0..1 inside the image.

    Examples:
        >>> norm_boxes(np.array([[0, 0, 101, 201]]), (101, 201)).tolist()
        [[0.0, 0.0, 1.0, 1.0]]
    """
    return box_math.normalize(boxes, shape)


def denorm_boxes(boxes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Turns normalised boxes into pixel boxes, the inverse of `norm_boxes`.

    Args:
        boxes: `[..., (y1, x1, y2, x2)]`, 0..1 inside the image.
        shape: (height, width) of the image in pixels.

    Returns:
        int32 `[..., 4]`, rounded.
    """
    return box_math.denormalize(boxes, shape)


def batch_slice(inputs: Any, graph_fn: Callable[..., Any], batch_size: int, names: Sequence[str] | None = None) -> Any:
    """Applies a function for one example to every example of a batch and stacks the results.

    Args:
        inputs: Tensor or list of tensors with a leading batch axis.
        graph_fn: Function from one example of each input to a tensor, or to a tuple or list of tensors.
        batch_size: Number of examples.
        names: Unused, since tensors of Keras 3 take no names; part of the lineage's signature.

    Returns:
        The stacked result, or a list of them if `graph_fn` returns several.
    """
    if not isinstance(inputs, list):
        inputs = [inputs]
    results = []
    for i in range(batch_size):
        result = graph_fn(*(tensor[i] for tensor in inputs))
        results.append(result if isinstance(result, tuple | list) else [result])
    stacked = [ops.stack(parts, axis=0) for parts in zip(*results, strict=True)]
    return stacked[0] if len(stacked) == 1 else stacked


def download_trained_weights(coco_model_path: str | os.PathLike, verbose: int = 1) -> None:
    """Downloads the weights trained on COCO, unless the file exists.

    Args:
        coco_model_path: Path of the file.
        verbose: 1 prints start and end of the download.

    Raises:
        DownloadError: The transfer failed; the message names the address and the place for the file.
    """
    if verbose > 0:
        print(f"Downloading pretrained model to {coco_model_path} ...")
    download(COCO_MODEL_URL, coco_model_path, what="Mask R-CNN weights trained on COCO")
    if verbose > 0:
        print("... done downloading pretrained model!")
