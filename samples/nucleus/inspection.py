"""Pictures of what a model got right."""

from __future__ import annotations

import numpy as np

from nucleus.export import draw_outlines
from nucleus.metrics import overlaps

FOUND, SPURIOUS, MISSED = (0, 230, 0), (255, 0, 0), (255, 220, 0)


def draw_matches(
    image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, threshold: float = 0.5
) -> tuple[np.ndarray, dict[str, int]]:
    """Outlines predicted nuclei that match one of the ground truth in green, others in red, and missed ones in yellow.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        truth: Integer `[H, W]` label image.
        predicted: Integer `[H, W]` label image.
        threshold: The IoU that a match exceeds, 0.5 or more.

    Returns:
        The picture, uint8 `[H, W, 3]`, and how many nuclei were "found", "spurious" and "missed".

    Raises:
        ValueError: The shapes differ, an argument is no label image, or the threshold is below 0.5.
    """
    if threshold < 0.5:
        raise ValueError(f"Below an IoU of 0.5 matches are not unique. Received: threshold={threshold}")
    pairs = overlaps(truth, predicted)
    matched = pairs.iou > threshold
    found = pairs.predicted_ids[pairs.predicted_index[matched]]
    seen = pairs.truth_ids[pairs.truth_index[matched]]
    hits, lost = np.isin(predicted, found), ~np.isin(truth, seen)
    picture = draw_outlines(image, np.where(hits, predicted, 0), FOUND)
    picture = draw_outlines(picture, np.where(lost, truth, 0), MISSED)
    picture = draw_outlines(picture, np.where(hits, 0, predicted), SPURIOUS)
    counts = {
        "found": len(found),
        "spurious": len(pairs.predicted_ids) - len(found),
        "missed": len(pairs.truth_ids) - len(seen),
    }
    return picture, counts
