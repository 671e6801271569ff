"""Pictures of the network's inside: targets of the RPN, activations, weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from mrcnn import boxes as box_ops
from mrcnn.config import Config
from mrcnn.tables import layers_with_weights
from mrcnn.visualize import draw_boxes


def draw_rpn_targets(
    image: np.ndarray,
    anchors: np.ndarray,
    rpn_match: np.ndarray,
    rpn_bbox: np.ndarray,
    config: Config,
    ax: Axes | None = None,
) -> None:
    """Draws the anchors that train the RPN on one image.

    Positive anchors are dotted and coloured, their refined boxes solid; negative ones are grey.
    Neutral anchors are left out.

    Args:
        image: `[H, W, 3]`, values 0 to 255.
        anchors: `[A, 4]` pixels.
        rpn_match: int `[A]` or `[A, 1]`: 1 positive, -1 negative, 0 neutral.
        rpn_bbox: float `[N, 4]`, the deltas of the positive anchors in their order, divided by RPN_BBOX_STD_DEV.
        config: Uses RPN_BBOX_STD_DEV.
        ax: matplotlib axes; None opens a figure.
    """
    match = np.ravel(rpn_match)
    positive, negative = anchors[match == 1], anchors[match == -1]
    refined = box_ops.decode(positive, rpn_bbox[: len(positive)] * config.RPN_BBOX_STD_DEV)
    draw_boxes(
        image,
        boxes=np.concatenate([negative, positive]),
        refined_boxes=np.concatenate([negative, refined]),
        visibilities=[0] * len(negative) + [1] * len(positive),
        title=f"{len(positive)} positive (coloured), {len(negative)} negative (grey) of {len(anchors):,} anchors",
        ax=ax,
    )


def display_activations(activations: Mapping[str, np.ndarray], channels: int = 6) -> None:
    """Shows the most varied channels of layers, one row per layer.

    Each channel is stretched from black (its minimum) to white (its maximum); one that has the same value everywhere is
    black.

    Args:
        activations: Name of the layer -> float `[H, W, C]`.
        channels: Maximum number of channels per layer.
    """
    height, width = next(iter(activations.values())).shape[:2]
    row_height = 14 / channels * height / width + 0.3
    _, axes = plt.subplots(
        len(activations), 1, figsize=(14, len(activations) * row_height), squeeze=False, layout="constrained"
    )
    for ax, (name, values) in zip(axes[:, 0], activations.items(), strict=True):
        best = np.argsort(-values.std(axis=(0, 1)), kind="stable")[:channels]
        ax.imshow(_side_by_side(values[:, :, best]), cmap="gray", interpolation="nearest", aspect="auto")
        ax.axis("off")
        size = " x ".join(str(side) for side in values.shape)
        ax.set_title(
            f"{name} ({size}), channels {', '.join(str(channel) for channel in best)}", fontsize=10, loc="left"
        )


def _side_by_side(values: np.ndarray) -> np.ma.MaskedArray:
    """Joins the channels of `[H, W, C]`, each stretched to 0..1, in one picture with gaps between them."""
    low, high = values.min(axis=(0, 1)), values.max(axis=(0, 1))
    stretched = (values - low) / np.where(high > low, high - low, 1)
    gap = max(1, values.shape[1] // 40)
    padded = np.pad(stretched, ((0, 0), (0, gap), (0, 0)), constant_values=np.nan)
    return np.ma.masked_invalid(np.hstack(list(np.moveaxis(padded, -1, 0)))[:, :-gap])


def plot_weight_histograms(model: Any, names: Sequence[str], columns: int = 4) -> None:
    """Plots histograms of the kernels of layers.

    Args:
        model: Keras model; layers of nested models are found too.
        names: Names of the layers whose first weight is plotted.
        columns: Histograms per row.

    Raises:
        ValueError: The model has no such layer with weights.
    """
    layers = {layer.name: layer for layer in layers_with_weights(model)}
    missing = [name for name in names if name not in layers]
    if missing:
        raise ValueError(f"The model has no layer with weights of the name {', '.join(missing)}")
    rows = math.ceil(len(names) / columns)
    _, axes = plt.subplots(rows, columns, figsize=(14, 2.6 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat[len(names) :]:
        ax.axis("off")
    for ax, name in zip(axes.flat, names, strict=False):
        kernel = layers[name].get_weights()[0].ravel()
        ax.hist(kernel, bins=60, histtype="stepfilled", color="tab:blue")
        ax.set_title(f"{name}\nmean {kernel.mean():+.3f}, std {kernel.std():.3f}", fontsize=9)
        ax.tick_params(labelsize=8)
        ax.set_yticks([])
