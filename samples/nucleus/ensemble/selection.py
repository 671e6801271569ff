"""Which of the overlapping masks of several models stay: non-maximum suppression by a quality, and painting."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from nucleus.ensemble.candidates import Candidates
from nucleus.images.labels import relabel_sequential

# Section 4.3 of "Nuclei segmentation using computer vision", Vuola, 2019.
NMS_THRESHOLD = 0.3
LEAST_VISIBLE = 0.5


@dataclass(frozen=True)
class Selection:
    """The masks that stay.

    Attributes:
        labels: int32 `[H, W]` with labels 1..M.
        chosen: int64 `[M]`, index of the candidate that label k + 1 is, ascending.
    """

    labels: np.ndarray
    chosen: np.ndarray


def select(
    candidates: Candidates,
    quality: np.ndarray,
    threshold: float = 0.0,
    nms_threshold: float = NMS_THRESHOLD,
    least_visible: float = LEAST_VISIBLE,
) -> Selection:
    """Chooses masks greedily, best first.

    A mask is left out if its IoU with a better one that stays is above `nms_threshold`. Pixels that several masks have
    stay with the best. What is left of a mask under better ones is dropped if it is less than a given part of it: a
    clump that another model divides into many nuclei overlaps with none of them by much, and would leave rims.

    Which masks stay at a higher threshold is what stays at a lower one without those below it, since a mask only
    yields to better ones.

    Args:
        candidates: The masks.
        quality: float `[N]` of each; of equals the earlier mask comes first.
        threshold: Least quality of a mask that stays.
        nms_threshold: IoU in 0..1.
        least_visible: Part of a mask in 0..1; 0 keeps whatever has a pixel, as the thesis does.

    Returns:
        The `Selection`.
    """
    rivals = defaultdict(list)
    for pair in np.flatnonzero(candidates.iou > nms_threshold):
        rivals[candidates.first[pair]].append(candidates.second[pair])
        rivals[candidates.second[pair]].append(candidates.first[pair])
    canvas = np.zeros(candidates.labels[0].shape, np.int32)
    suppressed = quality < threshold
    for index in np.argsort(-quality, kind="stable"):
        if suppressed[index]:
            continue
        y1, x1, y2, x2 = candidates.boxes[index]
        region = canvas[y1:y2, x1:x2]
        free = candidates.crop(index) & (region == 0)
        if np.count_nonzero(free) < max(least_visible * candidates.area[index], 1):
            continue
        region[free] = index + 1
        suppressed[rivals[index]] = True
    return Selection(*relabel_sequential(canvas))
