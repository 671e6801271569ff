"""Copy-paste augmentation: nuclei of one image are pasted into another, apart from its own or touching them.

"A simple way to generate data is to crop segmented objects from one image and insert them into another": Vuola, "Nuclei
segmentation using computer vision", 2019, section 3.1.3. Synthetic clumps are a proposal of Rocha de Andrade, "Nuclei
detection based on fully convolutional networks", 2018, section 8, since touching nuclei are the hardest to separate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from nucleus.images.labels import areas
from nucleus.images.preprocess import is_grey

# Width in pixels of the margin in which a pasted nucleus fades into its surroundings, and of the gap to other nuclei
# where it does not touch them.
_MARGIN, _GAP = 4, 2
# Limits for a nucleus to be copied: area between these percentiles of the image's own areas, with a tolerance factor;
# no sliver, whose area is a large multiple of its squared inscribed radius (pi for a disc, 4 pi for an ellipse of 4:1);
# and only a small share of the outline touching neighbours.
_SIZE_PERCENTILES, _SIZE_TOLERANCE = (10, 90), 1.5
_SMALLEST_AREA = 16
_THINNEST = 16.0
_MOST_CROWDED = 0.1
# The background at the place must be as light as that around the image's own nuclei: between these percentiles of their
# surroundings, with a tolerance in levels.
_LIGHTNESS_PERCENTILES, _LIGHTNESS_TOLERANCE = (5, 95), 6.0
# Largest factor of the contrast; more would amplify noise.
_HIGHEST_GAIN = 2.0
# Places that are tried for a nucleus apart from others, and directions for one that touches another.
_TRIES = 256
_SLIDES = 12
# Approximate number of pixels that an image's levels are estimated from.
_SAMPLED = 2**14


@dataclass(frozen=True)
class _Cutout:
    """A nucleus with a margin, rotated and mirrored.

    Attributes:
        levels: float32 [h, w, 3], pixels minus their background.
        mask: bool [h, w], the nucleus.
        apart: bool [h, w], the nucleus and the gap around it.
        weight: float32 [h, w], 1 in the nucleus, falling to 0 in the margin and on neighbours.
        centre: (row, column) of the pixel farthest from the nucleus's outline.
        radius: Distance in pixels from the centre to the outline.
    """

    levels: np.ndarray
    mask: np.ndarray
    apart: np.ndarray
    weight: np.ndarray
    centre: tuple[int, int]
    radius: float


@dataclass(frozen=True)
class _Levels:
    """Levels of an image's nuclei and of their surroundings.

    Attributes:
        background: float32 [3], median level around nuclei.
        contrast: float32 [3], median level of nuclei minus the background.
        lightness: Lowest and highest mean of the three channels around nuclei.
    """

    background: np.ndarray
    contrast: np.ndarray
    lightness: tuple[float, float]


def paste_nuclei(
    image: np.ndarray,
    labels: np.ndarray,
    donor: np.ndarray,
    donor_labels: np.ndarray,
    count: int,
    rng: np.random.Generator,
    touching: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Pastes copies of a donor's nuclei into an image.

    Copies are rotated by right angles and mirrored, at their original size. Nuclei cut off by the donor's edge or by
    neighbours, slivers, and nuclei much smaller or larger than the image's own are not copied. Copies get the
    background level of their new place, and the contrast and stain of the image's nuclei. They are pasted where the
    background is as light as around these. Pixels of the image's own nuclei do not change. The whole image is unchanged
    if nothing fits: if only one of the two images is grey, nuclei are bright in one and dark in the other, the donor's
    have less than half the contrast, or there is no room.

    Examples:
        >>> labels = np.zeros((64, 64), np.int32)
        >>> labels[8:20, 8:20] = 1
        >>> image = np.where(labels[..., None] > 0, (200, 90, 160), (235, 225, 230)).astype(np.uint8)
        >>> pasted, pasted_labels = paste_nuclei(image, labels, image, labels, count=1, rng=np.random.default_rng(0))
        >>> int(pasted_labels.max()), pasted.shape == image.shape
        (2, True)

    Args:
        image: uint8 [H, W, 3] RGB.
        labels: int32 [H, W], nuclei 1...N. An image without nuclei is returned unchanged.
        donor: uint8 [H', W', 3] RGB, of the same modality.
        donor_labels: int32 [H', W'], nuclei of the donor.
        count: Largest number of nuclei to paste, at least 1.
        rng: Source of every random choice.
        touching: Probability, 0..1, that a nucleus is pasted touching another one, without overlap, instead of apart.

    Returns:
        (image uint8 [H, W, 3], labels int32 [H, W]). The image's own nuclei keep their labels and pixels; the pasted
        ones follow in the order of pasting.

    Raises:
        ValueError: An image and its label image differ in height or width.
    """
    for pixels, instances in ((image, labels), (donor, donor_labels)):
        if pixels.shape[:2] != instances.shape:
            raise ValueError(
                f"image and labels must have one height and width; received {pixels.shape}, {labels.shape}"
            )
    chosen = _choose(labels, donor_labels, rng)
    if not len(chosen) or is_grey(image) != is_grey(donor):
        return image, labels
    there, brought = _levels(image, labels), _levels(donor, donor_labels)
    gain = float(there.contrast @ brought.contrast / max(brought.contrast @ brought.contrast, 1e-6))
    if not 0 < gain <= _HIGHEST_GAIN:
        return image, labels
    image, labels = image.copy(), labels.copy()
    room = cv2.distanceTransform((labels == 0).astype(np.uint8), cv2.DIST_L2, 3)
    donor_boxes, boxes = ndimage.find_objects(donor_labels), ndimage.find_objects(labels)
    present, wanted = [box for box in boxes if box is not None], len(boxes) + count
    for number in chosen.tolist():
        cutout = _cut_out(donor, donor_labels, number, donor_boxes[number - 1], brought.background, rng)
        if rng.random() < touching:
            place = cutout and _place_against(cutout, labels, present, rng)
        else:
            place = cutout and _place_apart(cutout, image, labels, room, there.lightness, rng)
        if place is not None:
            boxes.append(place)
            present.append(place)
            _put(cutout, image, labels, len(boxes), place, gain, there, brought)
        if len(boxes) == wanted:
            break
    return image, labels


def _levels(image: np.ndarray, labels: np.ndarray) -> _Levels:
    inside = (labels > 0).astype(np.uint8)
    around = cv2.dilate(inside, np.ones((2 * _MARGIN + 1, 2 * _MARGIN + 1), np.uint8)) > inside
    # Nuclei that fill the image have no surroundings.
    nuclei, background = _sample(image, inside > 0), _sample(image, around if around.any() else inside == 0)
    if not background.size:
        background = np.zeros((1, 3), np.uint8)
    middle = np.median(background, axis=0)
    lowest, highest = np.percentile(background.mean(axis=1), _LIGHTNESS_PERCENTILES)
    return _Levels(
        middle.astype(np.float32),
        (np.median(nuclei, axis=0) - middle).astype(np.float32),
        (float(lowest) - _LIGHTNESS_TOLERANCE, float(highest) + _LIGHTNESS_TOLERANCE),
    )


def _sample(image: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Returns the pixels of a region, uint8 [N, 3]; a regular subsample of a large one."""
    indices = np.flatnonzero(where)
    return image.reshape(-1, 3)[indices[:: max(1, len(indices) // _SAMPLED)]]


def _choose(labels: np.ndarray, donor_labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns the labels of the donor's whole nuclei with sizes like the image's own, in random order."""
    own, sizes = areas(labels), areas(donor_labels)
    present, whole = own > 0, (own > 0) & _whole(labels)
    if not present.any():
        return np.zeros(0, np.int64)
    lowest, highest = np.percentile(own[whole if whole.any() else present], _SIZE_PERCENTILES)
    fits = (sizes >= max(lowest / _SIZE_TOLERANCE, _SMALLEST_AREA)) & (sizes <= highest * _SIZE_TOLERANCE)
    return rng.permutation(np.flatnonzero(fits & _whole(donor_labels)) + 1)


def _whole(labels: np.ndarray) -> np.ndarray:
    """Returns whether each label lies off the image's edge, bool [N], N the highest label."""
    whole = np.ones(int(labels.max(initial=0)) + 1, bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        whole[edge] = False
    return whole[1:]


def _cut_out(
    donor: np.ndarray,
    donor_labels: np.ndarray,
    number: int,
    box: tuple[slice, slice],
    background: np.ndarray,
    rng: np.random.Generator,
) -> _Cutout | None:
    """Cuts a nucleus out; None if it is a sliver or touches its neighbours too much."""
    window = tuple(
        slice(max(part.start - _MARGIN, 0), min(part.stop + _MARGIN, length))
        for part, length in zip(box, donor_labels.shape, strict=True)
    )
    around = donor_labels[window]
    mask = around == number
    inner = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 3)
    outline = (distance > 0) & (distance < 2)
    crowded = np.count_nonzero(around[outline]) > _MOST_CROWDED * np.count_nonzero(outline)
    if crowded or np.count_nonzero(mask) > _THINNEST * inner.max() ** 2:
        return None
    weight = np.clip(1 - distance / _MARGIN, 0, 1)
    weight[(around != 0) & ~mask] = 0
    surroundings = (around == 0) & (distance > 1)
    levels = donor[window].astype(np.float32)
    # A nucleus in a crowd has too few pixels around it; the image's background is used.
    if np.count_nonzero(surroundings) >= _SMALLEST_AREA:
        background = np.median(levels[surroundings], axis=0)
    turns, mirrored = int(rng.integers(4)), bool(rng.integers(2))

    def turn(array: np.ndarray) -> np.ndarray:
        array = np.rot90(array, turns)
        return np.ascontiguousarray(array[:, ::-1] if mirrored else array)

    inner = turn(inner)
    y, x = np.unravel_index(int(inner.argmax()), inner.shape)
    return _Cutout(
        turn(levels - background),
        turn(mask),
        turn(distance <= _GAP),
        turn(weight),
        (int(y), int(x)),
        float(inner[y, x]),
    )


def _place_apart(
    cutout: _Cutout,
    image: np.ndarray,
    labels: np.ndarray,
    room: np.ndarray,
    lightness: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[slice, slice] | None:
    """Finds a random place where a nucleus keeps its gap to all others and the background is light enough.

    Args:
        cutout: The nucleus.
        image: uint8 [H, W, 3] RGB, with the nuclei pasted so far.
        labels: int32 [H, W], its nuclei.
        room: float32 [H, W], distance in pixels to the nearest of the image's own nuclei, which rules out most places.
        lightness: Lowest and highest mean level of the background.
        rng: Source of every random choice.

    Returns:
        The rows and columns, or None if no place is found.
    """
    (height, width), (rows, columns) = cutout.mask.shape, labels.shape
    if height > rows or width > columns:
        return None
    top, left = rng.integers(rows - height + 1, size=_TRIES), rng.integers(columns - width + 1, size=_TRIES)
    y, x = top + cutout.centre[0], left + cutout.centre[1]
    for index in np.flatnonzero(room[y, x] > cutout.radius).tolist():
        place = np.s_[top[index] : top[index] + height, left[index] : left[index] + width]
        if not labels[place][cutout.apart].any():
            below = float(np.median(image[place][cutout.weight > 0].mean(axis=1)))
            if lightness[0] <= below <= lightness[1]:
                return place
    return None


def _place_against(
    cutout: _Cutout, labels: np.ndarray, present: Sequence[tuple[slice, slice]], rng: np.random.Generator
) -> tuple[slice, slice] | None:
    """Finds a place where a nucleus touches another, by sliding it out of that one in a random direction."""
    height, width = cutout.mask.shape
    for _ in range(_SLIDES):
        rows, columns = present[int(rng.integers(len(present)))]
        angle = rng.uniform(0, 2 * np.pi)
        start = ((rows.start + rows.stop - height) / 2, (columns.start + columns.stop - width) / 2)
        # A step is at most one pixel down and across, so the first free place touches the nucleus below the last one.
        for step in range(rows.stop - rows.start + columns.stop - columns.start + height + width):
            top, left = round(start[0] + step * np.sin(angle)), round(start[1] + step * np.cos(angle))
            if min(top, left) < 0 or top + height > labels.shape[0] or left + width > labels.shape[1]:
                break
            place = np.s_[top : top + height, left : left + width]
            if not labels[place][cutout.mask].any():
                if step:
                    return place
                break
    return None


def _put(
    cutout: _Cutout,
    image: np.ndarray,
    labels: np.ndarray,
    number: int,
    place: tuple[slice, slice],
    gain: float,
    there: _Levels,
    brought: _Levels,
) -> None:
    """Writes a nucleus into an image and its label image, in place."""
    free = labels[place] == 0
    below = image[place].astype(np.float32)
    background = np.median(below[free], axis=0) if np.count_nonzero(free) >= _SMALLEST_AREA else there.background
    # Difference in colour between the image's own nuclei and the donor's at the same contrast.
    stain = there.contrast - gain * brought.contrast
    weight = (cutout.weight * free)[..., None]
    pasted = background + gain * cutout.levels + cutout.weight[..., None] * stain
    image[place] = np.rint(np.clip(below + weight * (pasted - below), 0, 255)).astype(np.uint8)
    labels[place][cutout.mask] = number
