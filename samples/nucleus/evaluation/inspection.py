"""Pictures of true positives, false positives and misses."""

from __future__ import annotations

import cv2
import numpy as np

from nucleus.evaluation.scores import Overlaps, overlaps
from nucleus.evaluation.scores.matching import require_unique
from nucleus.images.outlines import draw_outlines

# RGB colours of outlines.
FOUND, SPURIOUS, MISSED = (0, 230, 0), (255, 0, 0), (255, 220, 0)
# RGB colours of areas.
TRUE_POSITIVE, FALSE_POSITIVE, MISS = (0, 190, 60), (230, 30, 30), (50, 90, 255)
_SHADE = 0.4


def draw_matches(
    image: np.ndarray, truth: np.ndarray, predicted: np.ndarray, threshold: float = 0.5
) -> tuple[np.ndarray, dict[str, int]]:
    """Outlines matched predictions in green, unmatched ones in red, and missed nuclei in yellow.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        truth: Integer `[H, W]`, label image of the ground truth.
        predicted: Integer `[H, W]`, label image of the prediction.
        threshold: IoU above which two nuclei match, 0.5 or more.

    Returns:
        The picture, uint8 `[H, W, 3]`, and the numbers of "found", "spurious" and "missed" nuclei.

    Raises:
        ValueError: The shapes differ, an argument is no label image, or the threshold is below 0.5.
    """
    found, spurious, missed, counts = _divided(overlaps(truth, predicted), threshold)
    picture = draw_outlines(image, found, FOUND)
    picture = draw_outlines(picture, missed, MISSED)
    picture = draw_outlines(picture, spurious, SPURIOUS)
    return picture, counts


def shade_matches(
    image: np.ndarray,
    truth: np.ndarray,
    predicted: np.ndarray,
    threshold: float = 0.5,
    shape: tuple[int, int] | None = None,
) -> tuple[np.ndarray, dict[str, int]]:
    """Shades true positives green, false positives red and misses blue, over the image in grey, and outlines them.

    The colours are those of figure 5.1 of "Nuclei segmentation using computer vision", Vuola, 2019. Violet is a miss
    under a false positive: a nucleus that was outlined too inaccurately to match, split, or merged with others.
    (`draw_matches` uses other colours, since blue outlines are hard to see on stains and on black.)

    Args:
        image: uint8 `[H, W, 3]` RGB.
        truth: Integer `[H, W]`, label image of the ground truth.
        predicted: Integer `[H, W]`, label image of the prediction.
        threshold: IoU above which two nuclei match, 0.5 or more.
        shape: (height, width) of the picture; by default that of the image. Nuclei are matched before scaling.

    Returns:
        The picture, uint8 `[h, w, 3]`, and the numbers of "found", "spurious" and "missed" nuclei.

    Raises:
        ValueError: The shapes differ, an argument is no label image, or the threshold is below 0.5.
    """
    if image.shape[:2] != truth.shape:
        raise ValueError(f"Image and labels differ in shape. Received: {image.shape[:2]} and {truth.shape}")
    *parts, counts = _divided(overlaps(truth, predicted), threshold)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    picture = scale_image(np.repeat(grey[..., None], 3, axis=2), shape or truth.shape)
    height, width = picture.shape[:2]
    layers = []
    for part, colour in zip(parts, (TRUE_POSITIVE, FALSE_POSITIVE, MISS), strict=True):
        labels = cv2.resize(part.astype(np.int32), (width, height), interpolation=cv2.INTER_NEAREST)
        layers.insert(0, (labels, colour))
    for labels, colour in layers:
        inside = labels > 0
        picture[inside] = np.round((1 - _SHADE) * picture[inside] + _SHADE * np.array(colour)).astype(np.uint8)
    for labels, colour in layers:
        picture = draw_outlines(picture, labels, colour)
    return picture, counts


def scale_image(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Scales an image, by averaging pixels to make it smaller and by linear interpolation to make it larger.

    Args:
        image: uint8 `[H, W, 3]`.
        shape: (height, width) of the result.

    Returns:
        uint8 `[h, w, 3]`, a copy.
    """
    smaller = shape[0] < image.shape[0]
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR).copy()


def _divided(pair: Overlaps, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, int]]:
    """Returns label images of found and spurious predictions and of missed nuclei, and their numbers."""
    require_unique(threshold)
    matched = pair.iou > threshold
    found = pair.predicted_ids[pair.predicted_index[matched]]
    seen = pair.truth_ids[pair.truth_index[matched]]
    hits, lost = np.isin(pair.predicted, found), ~np.isin(pair.truth, seen)
    counts = {
        "found": len(found),
        "spurious": len(pair.predicted_ids) - len(found),
        "missed": len(pair.truth_ids) - len(seen),
    }
    predicted, truth = pair.predicted, pair.truth
    return np.where(hits, predicted, 0), np.where(hits, 0, predicted), np.where(lost, truth, 0), counts
