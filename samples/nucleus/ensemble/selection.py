"""Selection among the overlapping masks of several models: non-maximum suppression by quality, and painting."""

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
    """The selected masks.

    Attributes:
        labels: int32 `[H, W]`, labels 1..M.
        chosen: int64 `[M]`, ascending, index of the candidate of label k + 1.
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
    """Selects masks greedily, best first.

    A mask is dropped if its IoU with a better selected one is above `nms_threshold`. Shared pixels belong to the better
    mask. A mask is also dropped if better ones leave less than `least_visible` of it: a clump that another model
    divides into many nuclei has a small IoU with each of them, and would leave rims.

    The masks selected at a higher threshold are those selected at a lower one without the ones below it, since only
    better masks suppress a mask.

    Args:
        candidates: Masks of the image.
        quality: float `[N]`, quality of each mask; ties go to the earlier mask.
        threshold: Least quality of a selected mask.
        nms_threshold: IoU in 0..1 above which a better mask suppresses another.
        least_visible: Least visible share of a selected mask in 0..1; 0 keeps any visible pixel, as in the thesis.

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
