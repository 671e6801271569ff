"""Features of masks, from which an ensemble predicts the IoU with the truth.

"Nuclei segmentation using computer vision", Vuola, 2019, section 4.3, uses structural properties of
`skimage.measure.regionprops` (group "shape") and found no gain in intensities. The other groups are this project's: the
score by the mask's own model, the identity of this model, intensities, neighbours, and agreement with other models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from skimage.measure import regionprops_table
from skimage.segmentation import expand_labels

from nucleus.ensemble.candidates import Candidates
from nucleus.images.labels import areas, differing_sides

# Feature -> property of skimage.measure.regionprops.
_SHAPE = {
    "area": "area",
    "perimeter": "perimeter",
    "convex_area": "area_convex",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
    "extent": "extent",
    "major_axis": "axis_major_length",
    "minor_axis": "axis_minor_length",
}
# Features by group, in the order of the columns; "member" has one column a member.
GROUPS: dict[str, tuple[str, ...]] = {
    "shape": (*_SHAPE, "roundness"),
    "member": (),
    "score": ("score",),
    "intensity": ("intensity", "texture", "contrast", "edge", "image_intensity", "image_texture"),
    "neighbours": ("touching", "touching_part", "at_image_border", "relative_area", "masks_in_image"),
    "agreement": ("best_iou", "mean_iou", "partner_score", "covered", "pieces"),
}
# Width in pixels of a mask's surroundings.
_RING = 3


def feature_names(groups: Iterable[str], members: Sequence[str]) -> list[str]:
    """Returns the names of the features of some groups, in the order of the columns.

    Args:
        groups: Keys of GROUPS.
        members: Names of the models.

    Raises:
        ValueError: A group is unknown, or there is none.
    """
    groups = list(groups)
    unknown = [group for group in groups if group not in GROUPS]
    if unknown or not groups:
        raise ValueError(f"Expected groups of features among {', '.join(GROUPS)}. Received: {', '.join(groups)}")
    return [
        name
        for group in GROUPS
        if group in groups
        for name in (GROUPS[group] if group != "member" else [f"from_{member}" for member in members])
    ]


def describe_masks(candidates: Candidates, image: np.ndarray) -> dict[str, np.ndarray]:
    """Computes all features of all masks of an image.

    - shape: properties of `skimage.measure.regionprops`, in pixels, and roundness, 4 pi area / perimeter^2.
    - member: from_NAME, 1 for the masks of that member, else 0.
    - score: score by the mask's own model.
    - intensity: mean and standard deviation of the luminance (ITU-R BT.601, 0..255) in the mask and in the whole image;
      contrast, mean luminance minus that of the background within three pixels of the mask (0 without such background);
      edge, mean gradient magnitude (Sobel, luminance per pixel) on the mask's border pixels.
    - neighbours: number of masks of the same member that touch the mask, share of its outline that touches them,
      whether it reaches the image's border, its area divided by the median area of its member's masks in this image,
      and the number of these masks.
    - agreement: largest IoU with a mask of another member; mean over other members of the largest IoU with their masks;
      score of the mask with the largest IoU; mean over other members of the share of its pixels that they cover;
      largest number of masks of one other member with more than half of their pixels in it. All are 0 without other
      members.

    Args:
        candidates: Masks of the image.
        image: uint8 `[H, W, 3]` RGB, as read.

    Returns:
        Name -> float64 `[N]`, finite, for the `feature_names` of all groups.

    Raises:
        ValueError: The image and the masks differ in shape.
    """
    if image.shape[:2] != candidates.labels[0].shape:
        raise ValueError(f"The image has {image.shape[:2]} pixels, its label images {candidates.labels[0].shape}")
    luminance = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.hypot(*(cv2.Sobel(luminance, cv2.CV_32F, *axis, scale=1 / 8) for axis in ((1, 0), (0, 1))))
    of_members = [
        {**_shape(labels), **_intensity(labels, luminance, gradient), **_neighbours(labels)}
        for labels in candidates.labels
    ]
    table = {name: np.concatenate([columns[name] for columns in of_members]) for name in of_members[0]}
    for number, member in enumerate(candidates.members):
        table[f"from_{member}"] = candidates.member == number
    table["score"] = candidates.score
    table.update(_agreement(candidates))
    return {name: np.asarray(column, np.float64) for name, column in table.items()}


def feature_table(candidates: Candidates, image: np.ndarray, groups: Iterable[str]) -> np.ndarray:
    """Computes the features of every mask that belong to some groups.

    Args:
        candidates: The N masks of all members.
        image: uint8 `[H, W, 3]` RGB.
        groups: Names of the groups.

    Returns:
        float64 `[N, F]`, in the order of `feature_names`.
    """
    columns = describe_masks(candidates, image)
    return np.stack([columns[name] for name in feature_names(groups, candidates.members)], axis=1)


def _shape(labels: np.ndarray) -> dict[str, np.ndarray]:
    if not labels.any():
        return {name: np.zeros(0) for name in GROUPS["shape"]}
    measured = regionprops_table(labels, properties=tuple(_SHAPE.values()))
    table = {name: measured[key] for name, key in _SHAPE.items()}
    # The perimeter of a line of pixels can be 0.
    table["roundness"] = 4 * np.pi * table["area"] / np.maximum(table["perimeter"], 1) ** 2
    return table


def _intensity(labels: np.ndarray, luminance: np.ndarray, gradient: np.ndarray) -> dict[str, np.ndarray]:
    count = int(labels.max(initial=0))
    mean, deviation = _moments(labels, luminance, count)
    ring = np.where(labels == 0, expand_labels(labels, _RING), 0)
    around, _ = _moments(ring, luminance, count)
    border, _ = _moments(np.where(differing_sides(labels).any(axis=0), labels, 0), gradient, count)
    return {
        "intensity": mean,
        "texture": deviation,
        "contrast": np.where(np.isnan(around), 0, mean - around),
        "edge": np.nan_to_num(border),
        "image_intensity": np.full(count, luminance.mean()),
        "image_texture": np.full(count, luminance.std()),
    }


def _moments(labels: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation of `values` in each label, NaN for a label without a pixel."""
    inside = labels > 0
    which, values = labels[inside].astype(np.int64), values[inside].astype(np.float64)
    pixels = np.bincount(which, minlength=count + 1)[1:]
    safe = np.where(pixels > 0, pixels, np.nan)
    mean = np.bincount(which, values, count + 1)[1:] / safe
    variance = np.bincount(which, (values - mean[which - 1]) ** 2, count + 1)[1:] / safe
    return mean, np.sqrt(variance)


def _neighbours(labels: np.ndarray) -> dict[str, np.ndarray]:
    count = int(labels.max(initial=0))
    sides = differing_sides(labels)
    outline = np.bincount(np.concatenate([labels[side] for side in sides]), minlength=count + 1)[1:]
    here, there = (np.concatenate(parts).astype(np.int64) for parts in zip(*_touching(labels), strict=True))
    contacts = np.bincount(here, minlength=count + 1)[1:]
    pairs = np.unique(here * (count + 1) + there)
    at_border = np.zeros(count + 1, bool)
    for line in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        at_border[line] = True
    sizes = areas(labels)
    return {
        "touching": np.bincount(pairs // (count + 1), minlength=count + 1)[1:],
        # A mask that fills the image has no outline.
        "touching_part": contacts / np.maximum(outline, 1),
        "at_image_border": at_border[1:],
        "relative_area": sizes / np.median(sizes) if count else np.zeros(0),
        "masks_in_image": np.full(count, count),
    }


def _touching(labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns (label, neighbouring label) for every pixel side that two masks share, in both directions."""
    found = []
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        both = (one != other) & (one > 0) & (other > 0)
        found += [(one[both], other[both]), (other[both], one[both])]
    return found


def _agreement(candidates: Candidates) -> dict[str, np.ndarray]:
    count, members = len(candidates), len(candidates.members)
    best, covered, pieces = (np.zeros((count, members)) for _ in range(3))
    partner_score, best_iou = np.zeros(count), np.zeros(count)
    for one, other in ((candidates.first, candidates.second), (candidates.second, candidates.first)):
        of_other = candidates.member[other]
        np.maximum.at(best, (one, of_other), candidates.iou)
        np.add.at(covered, (one, of_other), candidates.shared / candidates.area[one])
        np.add.at(pieces, (one, of_other), 2 * candidates.shared > candidates.area[other])
        # Of repeated indices the last assignment holds, which is that of the largest IoU.
        order = np.argsort(candidates.iou, kind="stable")
        rising = order[candidates.iou[order] >= best_iou[one[order]]]
        best_iou[one[rising]] = candidates.iou[rising]
        partner_score[one[rising]] = candidates.score[other[rising]]
    others = max(members - 1, 1)
    return {
        "best_iou": best.max(axis=1),
        "mean_iou": best.sum(axis=1) / others,
        "partner_score": partner_score,
        "covered": covered.sum(axis=1) / others,
        "pieces": pieces.max(axis=1),
    }
