"""Pictures of instances, boxes and scores, under the names and signatures of matterport's `mrcnn.visualize`.

Functions that open a matplotlib figure also show it; with a backend that only writes files (Agg, PDF, …) the figure
stays open for `plt.savefig` instead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib import lines, patches
from matplotlib.axes import Axes
from skimage.measure import find_contours

from mrcnn import evaluation
from mrcnn.masks import extract_bboxes, unmold_mask
from mrcnn.painting import Color, apply_mask, check_displayable, displayable, draw_box, random_colors
from mrcnn.plots import plot_overlaps, plot_precision_recall
from mrcnn.tables import display_table, display_weight_stats

__all__ = [
    "apply_mask",
    "display_differences",
    "display_images",
    "display_instances",
    "display_table",
    "display_top_masks",
    "display_weight_stats",
    "draw_box",
    "draw_boxes",
    "draw_rois",
    "plot_overlaps",
    "plot_precision_recall",
    "random_colors",
]

_FILE_BACKENDS = frozenset({"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"})


def display_images(
    images: Sequence[np.ndarray],
    titles: Sequence[str] | None = None,
    cols: int = 4,
    cmap: Any = None,
    norm: Any = None,
    interpolation: str | None = None,
) -> None:
    """Shows images in a grid.

    Args:
        images: Each `[H, W]` or `[H, W, C]` with 1, 3 or 4 channels (grey, RGB, RGBA), values 0 to 255.
        titles: One title per image.
        cols: Images per row.
        cmap: Colour map of images without channels, e.g. "Blues".
        norm: matplotlib normalisation of such images.
        interpolation: matplotlib interpolation.

    Raises:
        ValueError: An image has other channels, or no pixels.
    """
    images = [check_displayable(image) for image in images]
    titles = [""] * len(images) if titles is None else titles
    rows = max(1, math.ceil(len(images) / cols))
    plt.figure(figsize=(14, 14 * rows / cols), layout="constrained")
    for position, (image, title) in enumerate(zip(images, titles, strict=False), start=1):
        plt.subplot(rows, cols, position)
        plt.title(title, fontsize=9)
        plt.axis("off")
        plt.imshow(image.astype(np.uint8), cmap=cmap, norm=norm, interpolation=interpolation)
    _show()


def display_instances(
    image: np.ndarray,
    boxes: np.ndarray,
    masks: np.ndarray,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    scores: np.ndarray | None = None,
    title: str = "",
    figsize: tuple[float, float] = (16, 16),
    ax: Axes | None = None,
    show_mask: bool = True,
    show_bbox: bool = True,
    colors: Sequence[Color] | None = None,
    captions: Sequence[str] | None = None,
) -> None:
    """Shows an image with its instances: tinted masks, outlines, boxes, captions.

    Args:
        image: `[H, W]` or `[H, W, C]` with 1, 3 or 4 channels (grey, RGB, RGBA), values 0 to 255.
        boxes: int `[N, 4]` in pixels, (y1, x1, y2, x2); an instance with a box of zeros is left out.
        masks: `[H, W, N]`.
        class_ids: int `[N]`.
        class_names: Names of the classes by class id.
        scores: float `[N]`, shown in the captions.
        title: Title of the picture.
        figsize: Inches (width, height) of the figure where `ax` is None.
        ax: matplotlib axes; None opens a figure and shows it.
        show_mask: True tints the masks; their outlines are always drawn.
        show_bbox: True draws the boxes.
        colors: One colour per instance; None for random ones.
        captions: One caption per instance; None for class name and score.

    Raises:
        ValueError: The numbers of boxes, masks and classes differ.
    """
    count = len(boxes)
    if count == 0:
        print("\n*** No instances to display ***\n")
    elif not count == masks.shape[-1] == len(class_ids):
        raise ValueError(
            f"Expected one mask and one class per box. Received: {count} boxes, {masks.shape[-1]} masks, "
            f"{len(class_ids)} classes"
        )
    opened = ax is None
    if ax is None:
        _, ax = plt.subplots(1, figsize=figsize)
    colors = random_colors(count) if colors is None else colors
    _frame(ax, image.shape, 10, 10, title)

    canvas = displayable(image)
    mask_boxes = extract_bboxes(masks)
    for i in range(count):
        if not np.any(boxes[i]):
            continue
        if show_bbox:
            _add_box(ax, boxes[i], edgecolor=colors[i], linestyle="dashed", alpha=0.7)
        if captions is not None:
            caption = captions[i]
        else:
            caption = class_names[class_ids[i]]
            if scores is not None:
                caption = f"{caption} {scores[i]:.3f}"
        ax.text(boxes[i][1], boxes[i][0] + 8, caption, color="w", size=11)
        _add_mask(ax, canvas, masks[:, :, i], mask_boxes[i], colors[i], tint=show_mask)
    ax.imshow(canvas.astype(np.uint8))
    if opened:
        _show()


def display_differences(
    image: np.ndarray,
    gt_box: np.ndarray,
    gt_class_id: np.ndarray,
    gt_mask: np.ndarray,
    pred_box: np.ndarray,
    pred_class_id: np.ndarray,
    pred_score: np.ndarray,
    pred_mask: np.ndarray,
    class_names: Sequence[str],
    title: str = "",
    ax: Axes | None = None,
    show_mask: bool = True,
    show_box: bool = True,
    iou_threshold: float = 0.5,
    score_threshold: float = 0.5,
) -> None:
    """Shows ground truth in green and predictions in red, each prediction with its score and IoU.

    Rows of zeros at the end of the boxes are padding and are ignored.

    Args:
        image: `[H, W]` or `[H, W, C]` with 1, 3 or 4 channels (grey, RGB, RGBA), values 0 to 255.
        gt_box: int `[M, 4]` in pixels.
        gt_class_id: int `[M]`.
        gt_mask: `[H, W, M]`.
        pred_box: int `[N, 4]` in pixels.
        pred_class_id: int `[N]`.
        pred_score: float `[N]`.
        pred_mask: `[H, W, N]`.
        class_names: Names of the classes by class id.
        title: Title of the picture; by default a legend.
        ax: matplotlib axes; None opens a figure and shows it.
        show_mask: True tints the masks.
        show_box: True draws the boxes.
        iou_threshold: Minimum mask IoU of a match, 0 to 1.
        score_threshold: Second minimum of the mask IoU, see `evaluation.compute_matches`.
    """
    gt_box, pred_box = evaluation.trim_zeros(gt_box), evaluation.trim_zeros(pred_box)
    gt_count = len(gt_box)
    # Matches count predictions by descending score.
    order = np.argsort(-pred_score[: len(pred_box)], kind="stable")
    truth = (gt_box, gt_class_id[:gt_count], gt_mask[..., :gt_count])
    prediction = (pred_box[order], pred_class_id[order], pred_score[order], pred_mask[..., order])
    _, pred_match, overlaps = evaluation.compute_matches(
        *truth, *prediction, iou_threshold=iou_threshold, score_threshold=score_threshold
    )
    captions = [""] * gt_count
    for score, match, row in zip(prediction[2], pred_match.astype(int), overlaps, strict=True):
        captions.append(f"{score:.2f} / {row[match] if match > -1 else row.max(initial=0):.2f}")
    display_instances(
        image,
        np.concatenate([truth[0], prediction[0]]),
        np.concatenate([truth[2], prediction[3]], axis=-1),
        np.concatenate([truth[1], prediction[1]]),
        class_names,
        title=title or "Ground Truth and Detections\n GT=green, pred=red, captions: score/IoU",
        ax=ax,
        show_mask=show_mask,
        show_bbox=show_box,
        colors=[(0, 1, 0, 0.8)] * gt_count + [(1, 0, 0, 1)] * len(order),
        captions=captions,
    )


def draw_rois(
    image: np.ndarray,
    rois: np.ndarray,
    refined_rois: np.ndarray,
    mask: np.ndarray,
    class_ids: np.ndarray,
    class_names: Sequence[str],
    limit: int = 10,
) -> None:
    """Draws RoIs dashed and, for positive ones, the refined RoI solid with mask and class name.

    Args:
        image: `[H, W]` or `[H, W, C]` with 1, 3 or 4 channels (grey, RGB, RGBA), values 0 to 255.
        rois: `[N, 4]` in pixels.
        refined_rois: `[N, 4]` in pixels.
        mask: float `[N, h, w]` in 0..1, target of the mask head in each RoI.
        class_ids: int `[N]`, 0 for background.
        class_names: Names of the classes by class id.
        limit: Maximum number of RoIs to draw; of more, a random sample by NumPy's global generator.
    """
    count = len(rois)
    chosen = np.random.choice(count, limit, replace=False) if count > limit else np.arange(count)
    _, ax = plt.subplots(1, figsize=(12, 12))
    title = f"Showing {limit} random ROIs out of {count}" if count > limit else f"{count} ROIs"
    _frame(ax, image.shape, 20, 50, title)

    canvas = displayable(image)
    for i in chosen:
        color = np.random.rand(3)
        _add_box(ax, rois[i], edgecolor=color if class_ids[i] else "gray", linestyle="dashed")
        if not class_ids[i]:
            continue
        _add_box(ax, refined_rois[i], edgecolor=color)
        _connect_corners(ax, rois[i], refined_rois[i], color)
        y1, x1 = refined_rois[i][:2]
        ax.text(x1, y1 + 8, class_names[class_ids[i]], color="w", size=11)
        apply_mask(canvas, unmold_mask(mask[i], rois[i].astype(np.int32), image.shape), color)
    ax.imshow(canvas.astype(np.uint8))

    positive = int(np.count_nonzero(class_ids))
    print(f"Positive ROIs: {positive}\nNegative ROIs: {count - positive}")
    print(f"Positive Ratio: {positive / max(count, 1):.2f}")


def display_top_masks(
    image: np.ndarray, mask: np.ndarray, class_ids: np.ndarray, class_names: Sequence[str], limit: int = 4
) -> None:
    """Shows an image beside the masks of the classes that cover most of it.

    Args:
        image: `[H, W]` or `[H, W, C]` with 1, 3 or 4 channels (grey, RGB, RGBA), values 0 to 255.
        mask: `[H, W, N]`.
        class_ids: int `[N]`.
        class_names: Names of the classes by class id.
        limit: Number of classes to show.
    """
    areas = {c: np.count_nonzero(mask[:, :, class_ids == c]) for c in np.unique(class_ids)}
    top = [c for c in sorted(areas, key=areas.get, reverse=True) if areas[c] > 0][:limit]
    pictures = [image]
    titles = [f"H x W={image.shape[0]}x{image.shape[1]}"]
    for c in top:
        members = mask[:, :, class_ids == c].astype(bool)
        # One shade an instance, never the background's 0.
        shades = (np.arange(members.shape[-1]) % 255 + 1).astype(np.uint8)
        pictures.append((members * shades).max(axis=-1))
        titles.append(class_names[c])
    blank = limit - len(top)
    pictures += [np.zeros(image.shape[:2], np.uint8)] * blank
    titles += ["-"] * blank
    display_images(pictures, titles=titles, cols=limit + 1, cmap="Blues_r")


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray | None = None,
    refined_boxes: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    captions: Sequence[str] | None = None,
    visibilities: Sequence[int] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> None:
    """Draws boxes dotted and refined boxes solid, with masks and captions if given.

    Args:
        image: `[H, W]` or `[H, W, C]` with 1, 3 or 4 channels (grey, RGB, RGBA), values 0 to 255.
        boxes: `[N, 4]` in pixels; a box of zeros is left out with its refined box, mask and caption.
        refined_boxes: `[N, 4]` in pixels, the boxes after refinement.
        masks: `[H, W, N]`.
        captions: One caption per box.
        visibilities: Style of each box: 0 grey and dotted, without its refined box; 1 dotted; 2 solid.
        title: Title of the picture.
        ax: matplotlib axes; None opens a figure.

    Raises:
        ValueError: Neither boxes nor refined boxes are given.
    """
    if boxes is None and refined_boxes is None:
        raise ValueError("draw_boxes needs boxes or refined_boxes. Received: neither")
    count = len(refined_boxes if boxes is None else boxes)
    if ax is None:
        _, ax = plt.subplots(1, figsize=(12, 12))
    colors = random_colors(count)
    margin = image.shape[0] // 10
    _frame(ax, image.shape, margin, margin, title)

    canvas = displayable(image)
    mask_boxes = None if masks is None else extract_bboxes(masks)
    for i in range(count):
        if boxes is not None and not np.any(boxes[i]):
            continue
        visibility = 1 if visibilities is None else visibilities[i]
        color = colors[i] if visibility else "gray"
        corner = None
        if boxes is not None:
            style = "solid" if visibility == 2 else "dotted"
            _add_box(ax, boxes[i], edgecolor=color, linestyle=style, alpha=1 if visibility else 0.5)
            corner = boxes[i][:2]
        if refined_boxes is not None and visibility > 0:
            refined = refined_boxes[i].astype(np.int32)
            _add_box(ax, refined, edgecolor=color)
            if boxes is not None:
                _connect_corners(ax, boxes[i], refined, color)
            corner = refined[:2]
        if captions is not None and corner is not None:
            frame = {"facecolor": color, "alpha": 0.5, "pad": 2, "edgecolor": "none"}
            ax.text(corner[1], corner[0], captions[i], size=11, va="top", color="w", bbox=frame)
        if masks is not None:
            _add_mask(ax, canvas, masks[:, :, i], mask_boxes[i], color)
    ax.imshow(canvas.astype(np.uint8))


def _frame(ax: Axes, shape: Sequence[int], vertical: int, horizontal: int, title: str) -> None:
    """Sets the title, and limits with a margin in pixels that shows boxes reaching outside the image."""
    ax.set_ylim(shape[0] + vertical, -vertical)
    ax.set_xlim(-horizontal, shape[1] + horizontal)
    ax.axis("off")
    ax.set_title(title)


def _add_box(ax: Axes, box: np.ndarray, **style: Any) -> None:
    y1, x1, y2, x2 = box[:4]
    ax.add_patch(patches.Rectangle((x1, y1), x2 - x1, y2 - y1, linewidth=2, facecolor="none", **style))


def _connect_corners(ax: Axes, box: np.ndarray, refined_box: np.ndarray, color: Color) -> None:
    ax.add_line(lines.Line2D([box[1], refined_box[1]], [box[0], refined_box[0]], color=color))


def _add_mask(
    ax: Axes, canvas: np.ndarray, mask: np.ndarray, mask_box: np.ndarray, color: Color, tint: bool = True
) -> None:
    """Outlines a mask and tints its pixels on the canvas, inside the mask's box."""
    y1, x1, y2, x2 = mask_box
    crop = mask[y1:y2, x1:x2].astype(bool)
    if tint:
        apply_mask(canvas[y1:y2, x1:x2], crop, color)
    # The ring of zeros closes the outline of a mask that touches the box.
    for vertices in find_contours(np.pad(crop, 1).astype(np.uint8), 0.5):
        outline = np.fliplr(vertices) - 1 + (x1, y1)
        ax.add_patch(patches.Polygon(outline, facecolor="none", edgecolor=color))


def _show() -> None:
    """Shows the open figures if the backend can."""
    if matplotlib.get_backend().lower() not in _FILE_BACKENDS:
        plt.show()
