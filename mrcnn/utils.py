"""The helpers of matterport's `mrcnn.utils` under their old names and signatures.

What has a module of its own here is re-exported: `boxes`, `anchors`, `masks`, `resizing`, `evaluation`, `dataset`.
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
    """Intersection over union of one box with many, areas given because callers have them already.

    Args:
        box: `[4]` as (y1, x1, y2, x2).
        boxes: `[N, 4]`.
        box_area: Area of `box`.
        boxes_area: `[N]`, areas of `boxes`.

    Returns:
        float `[N]` in 0..1; 0 for two boxes without area.
    """
    top_left = np.maximum(box[:2], boxes[:, :2])
    bottom_right = np.minimum(box[2:4], boxes[:, 2:4])
    intersection = np.prod(np.maximum(bottom_right - top_left, 0), axis=1)
    union = box_area + boxes_area - intersection
    return intersection / np.where(union > 0, union, 1)


def compute_overlaps(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Intersection over union of every pair of boxes `[N, 4]` and `[M, 4]`, float64 `[N, M]` in 0..1."""
    return box_math.iou_matrix(boxes1, boxes2).astype(np.float64, copy=False)


def non_max_suppression(boxes: np.ndarray, scores: np.ndarray, threshold: float) -> np.ndarray:
    """Greedy non-maximum suppression in NumPy.

    Args:
        boxes: `[N, 4]` as (y1, x1, y2, x2), y2 and x2 exclusive.
        scores: `[N]`.
        threshold: A box is dropped when its IoU with a better-scored kept one is above it.

    Returns:
        int32 `[K]`, the kept boxes by descending score; of equal scores the first comes first.
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
    """Moves and scales boxes `[N, 4]` by deltas `[N, (dy, dx, log dh, log dw)]`; float32 `[N, 4]`."""
    return box_math.decode(boxes.astype(np.float32), np.asarray(deltas, np.float32))


def box_refinement(box: np.ndarray, gt_box: np.ndarray) -> np.ndarray:
    """The deltas, float32 `[N, (dy, dx, log dh, log dw)]`, that turn boxes `[N, 4]` into others `[N, 4]`."""
    return box_math.encode(box.astype(np.float32), gt_box.astype(np.float32))


def box_refinement_graph(box: Any, gt_box: Any) -> Any:
    """`box_refinement` for tensors of the Keras backend, inside a graph or outside."""
    return box_math.encode(ops.cast(box, "float32"), ops.cast(gt_box, "float32"))


def norm_boxes(boxes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Pixel boxes `[..., 4]` as float32 normalised ones, given the image's (height, width).

    In pixels y2 and x2 lie outside the box, in normalised coordinates inside.
    """
    return box_math.normalize(boxes, shape)


def denorm_boxes(boxes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """The inverse of `norm_boxes`: int32 pixel boxes `[..., 4]`, rounded."""
    return box_math.denormalize(boxes, shape)


def batch_slice(inputs: Any, graph_fn: Callable[..., Any], batch_size: int, names: Sequence[str] | None = None) -> Any:
    """Applies a function for one example to every example of a batch and stacks the results.

    Args:
        inputs: A tensor or a list of tensors with a leading batch axis.
        graph_fn: Takes one example of each input; returns a tensor, or a tuple or list of tensors.
        batch_size: Number of examples, known when the graph is made.
        names: Ignored: tensors of Keras 3 have no names to give. Stands for the lineage's signature.

    Returns:
        The stacked result, or a list of them where `graph_fn` returns more than one.
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
    """Downloads the weights trained on COCO, unless they are there already.

    Args:
        coco_model_path: Where to put the file.
        verbose: 1 says when it starts and ends.

    Raises:
        trainkit.download.DownloadError: There is no network, or the transfer failed.
    """
    if verbose > 0:
        print(f"Downloading pretrained model to {coco_model_path} ...")
    download(COCO_MODEL_URL, coco_model_path, what="Mask R-CNN weights trained on COCO")
    if verbose > 0:
        print("... done downloading pretrained model!")
