"""Puts nuclei of one image into another, apart from those that are there or, for clumps, against them.

"A simple way to generate data is to crop segmented objects from one image and insert them into another": section 3.1.3
of the ensemble thesis; synthetic clumps are what Rocha de Andrade would have added (section 8), since models find
touching nuclei hardest to tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import ndimage

from nucleus.images.labels import areas
from nucleus.images.preprocess import is_grey

# Pixels around a nucleus over which it fades into its surroundings, and how many of them stay free between a nucleus
# and one that is set apart from it.
_MARGIN, _GAP = 4, 2
# A nucleus is taken if its area is between these percentiles of the areas of those that are there, give or take a
# factor; if it is no sliver, whose area is a large multiple of the square of the radius that fits into it (pi for a
# disc, 4 pi for an ellipse of 4:1); and if only a small part of its outline was drawn against neighbours.
_SIZE_PERCENTILES, _SIZE_TOLERANCE = (10, 90), 1.5
_SMALLEST_AREA = 16
_THINNEST = 16.0
_MOST_CROWDED = 0.1
# What is around a nucleus set apart must be as light as what is around those that are there: between these percentiles,
# give or take some levels.
_LIGHTNESS_PERCENTILES, _LIGHTNESS_TOLERANCE = (5, 95), 6.0
# Contrast may shrink to fit, but growing much would show the noise.
_HIGHEST_GAIN = 2.0
_TRIES = 256
_SLIDES = 12
# Pixels that an image's levels are estimated from.
_SAMPLED = 2**14


@dataclass(frozen=True)
class _Cutout:
    """A nucleus with a margin, turned and mirrored; all [h, w].

    Attributes:
        levels: float32 [h, w, 3], the pixels, less their own background.
        mask: bool, the nucleus.
        apart: bool, the nucleus and the gap that it keeps.
        weight: float32, 1 in the nucleus and falling to 0 in the margin and on neighbours.
        centre: (row, column) of the pixel farthest from the nucleus's outline.
        radius: Its distance to the outline.
    """

    levels: np.ndarray
    mask: np.ndarray
    apart: np.ndarray
    weight: np.ndarray
    centre: tuple[int, int]
    radius: float


@dataclass(frozen=True)
class _Levels:
    """What nuclei of an image and their surroundings are like.

    Attributes:
        background: float32 [3], median level around nuclei.
        contrast: float32 [3], median level of nuclei less that.
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
    """Puts copies of a donor's nuclei into an image.

    Copies are turned by right angles and mirrored, at the size they have. Not taken are nuclei cut off by the donor's
    edge or by neighbours, slivers, and those much smaller or larger than the image's own. Their levels are moved from
    their surroundings in the donor to those in the image, and their contrast and stain are brought to that of the
    image's nuclei. They come where it is as light as around these. Pixels of nuclei that are there stay as they are,
    and so does the whole image if nothing fits: if one of both is grey and the other is not, nuclei are bright in one
    and dark in the other, those of the donor have less than half the contrast, or there is no room.

    Args:
        image: uint8 [H, W, 3] RGB.
        labels: int32 [H, W], nuclei 1...N. An image without nuclei does not tell what fits: it stays as it is.
        donor: uint8 [H', W', 3] RGB, of like modality.
        donor_labels: int32 [H', W'].
        count: Nuclei to paste at most, from 1 on.
        rng: Makes every random choice.
        touching: Probability that a nucleus is set against one that is there, without overlap, instead of apart.

    Returns:
        (uint8 [H, W, 3], int32 [H, W]): the nuclei that were there keep their numbers and pixels, the new ones follow
        in the order in which they were put in.

    Raises:
        ValueError: An image and its label image do not have one height and width.
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
    # Where nuclei fill the image there is nothing around them.
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
    """Pixels of a region [N, 3], evenly drawn from a large one."""
    indices = np.flatnonzero(where)
    return image.reshape(-1, 3)[indices[:: max(1, len(indices) // _SAMPLED)]]


def _choose(labels: np.ndarray, donor_labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels of the donor's nuclei that are whole and of a size that the image has, in random order."""
    own, sizes = areas(labels), areas(donor_labels)
    present, whole = own > 0, (own > 0) & _whole(labels)
    if not present.any():
        return np.zeros(0, np.int64)
    lowest, highest = np.percentile(own[whole if whole.any() else present], _SIZE_PERCENTILES)
    fits = (sizes >= max(lowest / _SIZE_TOLERANCE, _SMALLEST_AREA)) & (sizes <= highest * _SIZE_TOLERANCE)
    return rng.permutation(np.flatnonzero(fits & _whole(donor_labels)) + 1)


def _whole(labels: np.ndarray) -> np.ndarray:
    """Which labels do not lie at the edge: bool [N], N the highest label."""
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
    """Cuts a nucleus out; None if it is a sliver or was drawn against its neighbours."""
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
    # Of a nucleus in a crowd the image's background has to do.
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
    """A random place where a nucleus keeps its gap to all others and it is light enough around it, if one is found.

    Args:
        cutout: The nucleus.
        image: The image.
        labels: What is there.
        room: Distance of every pixel to the nearest of the nuclei that the image had: sorts out most places at once.
        lightness: Lowest and highest.
        rng: Chooses the place.
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
    """A place where a nucleus touches another: slides it out of one in a random direction until it is free."""
    height, width = cutout.mask.shape
    for _ in range(_SLIDES):
        rows, columns = present[int(rng.integers(len(present)))]
        angle = rng.uniform(0, 2 * np.pi)
        start = ((rows.start + rows.stop - height) / 2, (columns.start + columns.stop - width) / 2)
        # The step is at most a pixel down and across, so where it first is free it touches what it lay on before.
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
    """Writes a nucleus into an image and its label image."""
    free = labels[place] == 0
    below = image[place].astype(np.float32)
    background = np.median(below[free], axis=0) if np.count_nonzero(free) >= _SMALLEST_AREA else there.background
    # The stain of the image's own nuclei: what the donor's contrast, as strong as theirs, still lacks of their colour.
    stain = there.contrast - gain * brought.contrast
    weight = (cutout.weight * free)[..., None]
    pasted = background + gain * cutout.levels + cutout.weight[..., None] * stain
    image[place] = np.rint(np.clip(below + weight * (pasted - below), 0, 255)).astype(np.uint8)
    labels[place][cutout.mask] = number
