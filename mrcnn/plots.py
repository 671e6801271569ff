"""Plots of detections against ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np


def plot_precision_recall(AP: float, precisions: Sequence[float], recalls: Sequence[float]) -> None:
    """Plots a precision-recall curve from `evaluation.compute_ap`.

    Args:
        AP: Average precision at IoU 0.5, shown in the title.
        precisions: Precisions in 0..1.
        recalls: Recalls in 0..1, one per precision.
    """
    _, ax = plt.subplots(1)
    ax.set_title(f"Precision-Recall Curve. AP@50 = {AP:.3f}")
    ax.set_xlabel("Recall")
    ax.set_ylabel("Precision")
    ax.set_ylim(0, 1.1)
    ax.set_xlim(0, 1.1)
    ax.plot(recalls, precisions)


def plot_overlaps(
    gt_class_ids: np.ndarray,
    pred_class_ids: np.ndarray,
    pred_scores: np.ndarray,
    overlaps: np.ndarray,
    class_names: Sequence[str],
    threshold: float = 0.5,
) -> None:
    """Draws the IoU of every prediction with every ground-truth instance, and marks the matching pairs.

    Args:
        gt_class_ids: int `[M]`; zeros are padding.
        pred_class_ids: int `[N]`; zeros are padding.
        pred_scores: float `[N]`.
        overlaps: float `[N, M]`, IoU without the padding.
        class_names: Names of the classes by class id.
        threshold: IoU above which a pair is marked as a match, or as wrong if the classes differ.
    """
    gt_class_ids = gt_class_ids[gt_class_ids != 0]
    pred_class_ids = pred_class_ids[pred_class_ids != 0]
    _, ax = plt.subplots(1, figsize=(12, 10))
    ax.imshow(overlaps, interpolation="nearest", cmap="Blues")
    ax.set_yticks(
        np.arange(len(pred_class_ids)),
        [f"{class_names[int(c)]} ({pred_scores[i]:.2f})" for i, c in enumerate(pred_class_ids)],
    )
    ax.set_xticks(np.arange(len(gt_class_ids)), [class_names[int(c)] for c in gt_class_ids], rotation=90)
    middle = overlaps.max(initial=0) / 2
    for (i, j), overlap in np.ndenumerate(overlaps):
        verdict = ""
        if overlap > threshold:
            verdict = "match" if gt_class_ids[j] == pred_class_ids[i] else "wrong"
        color = "white" if overlap > middle else "black" if overlap > 0 else "grey"
        ax.text(j, i, f"{overlap:.3f}\n{verdict}", ha="center", va="center", fontsize=9, color=color)
    ax.set_xlabel("Ground Truth")
    ax.set_ylabel("Predictions")
    ax.figure.tight_layout()
