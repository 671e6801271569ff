"""Training targets: the channels of a label image, and the weight of every pixel in the loss.

Everything here works on the label image as a whole. A neighbourhood holds two nuclei where its smallest and its largest
label differ, so minimum and maximum filters do for every nucleus at once what a loop would do mask by mask.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
from scipy import ndimage
from skimage import measure

from unet.distance import distance_to_background

# Kind of targets -> its channels, in order. A new channel needs a function in `_CHANNEL_MAKERS`.
CHANNELS: dict[str, tuple[str, ...]] = {
    "mask": ("mask",),
    "mask-border": ("mask", "border"),
    "mask-borderless-touching": ("mask", "borderless", "touching"),
    "mask-core-touching": ("mask", "core", "touching"),
}
# Window around a nucleus in the weight map: beyond it w0 * exp(-18), 1.5e-7 for w0 = 10, is lost in float32.
_REACH_IN_SIGMA = 6.0
# Share of a nucleus' greatest depth below which its pixels are not in its core.
_CORE_DEPTH = 0.5
# One less than uint16 holds: labels are also counted downwards from there.
_MAX_LABEL = np.iinfo(np.uint16).max - 1


def make_targets(labels: np.ndarray, kind: str, border_width: int = 2, erosion_width: int = 2) -> np.ndarray:
    """Turns a label image into the channels that a segmenter learns.

    Kinds and their channels:

    - `mask`: `mask`, 1 on every nucleus.
    - `mask-border`: `mask`, and `border`, 1 where nuclei overlap once each is dilated by `border_width`: on and between
      nuclei that touch or nearly do (Vuola, "Nuclei segmentation using computer vision", 2019, section 4.1).
    - `mask-borderless-touching` (Rocha de Andrade, "Nuclei detection based on fully convolutional networks", section
      5.3): `mask`; `borderless`, 1 on every nucleus eroded on its own (see `borderless`); and `touching`, the `border`
      above without the pixels of `borderless`, which a nucleus too small to be eroded has inside it.
    - `mask-core-touching`: the same with `core` (see `core`) in the place of `borderless`, which an erosion by a few
      pixels leaves hardly smaller than the mask where nuclei are large.

    Args:
        labels: Integer `[H, W]` label image, 0 background. Labels need not be consecutive.
        kind: Key of `CHANNELS`.
        border_width: Radius in pixels of the dilation, 1 or more. A border between nuclei that share an edge is twice
            as wide.
        erosion_width: Radius in pixels of the erosion, 1 or more.

    Returns:
        uint8 `[H, W, C]`, 0 or 1, one channel for each name in `CHANNELS[kind]`.

    Raises:
        ValueError: An argument is out of range, or `labels` is no label image.

    Examples:
        Two nuclei share an edge.

        >>> labels = np.zeros((4, 8), int)
        >>> labels[:, 1:4], labels[:, 4:7] = 1, 2
        >>> targets = make_targets(labels, "mask-border", border_width=1)
        >>> targets.shape, targets.dtype
        ((4, 8, 2), dtype('uint8'))
        >>> targets[0, :, 0], targets[0, :, 1]
        (array([0, 1, 1, 1, 1, 1, 1, 0], dtype=uint8), array([0, 0, 0, 1, 1, 0, 0, 0], dtype=uint8))
    """
    if kind not in CHANNELS:
        raise ValueError(f"Targets must be one of {', '.join(CHANNELS)}. Received: {kind!r}")
    labels = _as_uint16(labels)
    made: dict[str, np.ndarray] = {}
    for name in CHANNELS[kind]:
        made[name] = _CHANNEL_MAKERS[name](labels, border_width, erosion_width, made)
    return np.stack(list(made.values()), axis=-1).view(np.uint8)


def border(labels: np.ndarray, width: int = 2) -> np.ndarray:
    """Finds the pixels that more than one nucleus claims once each is dilated.

    Args:
        labels: Integer `[H, W]` label image.
        width: Radius in pixels of the disk that dilates, 1 or more.

    Returns:
        bool `[H, W]`: two or more nuclei have a pixel at a distance of `width` or less.

    Raises:
        ValueError: `width` is below 1, or `labels` is no label image.

    Examples:
        >>> border(np.array([[1, 1, 1, 0, 2, 2, 2]]), width=1).astype(int)
        array([[0, 0, 0, 1, 0, 0, 0]])
    """
    return _claimed_twice(_as_uint16(labels), width)


def borderless(labels: np.ndarray, width: int = 2) -> np.ndarray:
    """Erodes every nucleus on its own, so that nuclei that touch come apart, and none is lost or cut in pieces.

    A nucleus is eroded by a disk of radius `width`. Where that leaves none of it or cuts it in more pieces than it
    has, the next smaller radius is tried, down to 0, which leaves the nucleus as it is. The world outside the image
    does not erode: a nucleus that the image's edge cuts is taken to go on there.

    Args:
        labels: Integer `[H, W]` label image.
        width: Radius in pixels of the disk, 1 or more.

    Returns:
        bool `[H, W]`, at least one pixel of every nucleus. The components of different nuclei are not 4-connected,
        unless neither of the two could be eroded at all.

    Raises:
        ValueError: `width` is below 1, or `labels` is no label image.

    Examples:
        >>> borderless(np.array([[1, 1, 1, 2, 2, 2, 0]]), width=1).astype(int)
        array([[1, 1, 0, 0, 1, 0, 0]])
    """
    return _borderless(_as_uint16(labels), width)


def core(labels: np.ndarray) -> np.ndarray:
    """Finds the inner half of every nucleus: pixels at more than half of the nucleus' greatest depth.

    Depth is a pixel's distance to the nearest of the nucleus' outermost pixels, and half a pixel. The core is as large
    in proportion in small and in large nuclei, and narrow bridges do not reach it: the distance map of Naylor et al.
    ("Segmentation of nuclei in histopathology images by deep regression of the distance map", IEEE TMI 2018, section
    III.B) in two levels. Where a nucleus' core is in pieces, the largest is kept. The world outside the image is taken
    to continue a nucleus that the image's edge cuts.

    Args:
        labels: Integer `[H, W]` label image.

    Returns:
        bool `[H, W]`, at least one pixel of every nucleus. The cores of different nuclei are not 4-connected, unless
        neither of the two is more than two pixels wide.

    Raises:
        ValueError: `labels` is no label image.

    Examples:
        >>> core(np.array([[0, 1, 1, 1, 1, 1, 2, 2, 2, 0]])[[0] * 3]).astype(int)[1]
        array([0, 0, 1, 1, 1, 0, 0, 1, 0, 0])
    """
    return _core(_as_uint16(labels))


def border_weight_map(
    labels: np.ndarray, w0: float = 10.0, sigma: float = 5.0, class_weights: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """Weighs the pixels between neighbouring nuclei, as the original U-Net does.

    w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2)), with d1 and d2 the Euclidean distances in pixels to the
    border of the nearest and of the second nearest nucleus, and w_c the weight of the pixel's class (Ronneberger et
    al., "U-Net: convolutional networks for biomedical image segmentation", 2015, eq. 2). A nucleus' border is its
    outermost pixels, those with a pixel outside it among their four neighbours: inside a nucleus the distance grows
    again towards its middle. Where the image's edge cuts a nucleus there is no border.

    Distances are measured in a window around each nucleus that reaches 6 sigma beyond it. Nuclei further away would
    add less than w0 * 1.6e-8 to a weight and are left out; within reach the distances are exact.

    Args:
        labels: Integer `[H, W]` label image.
        w0: Largest weight that a border adds.
        sigma: Distance in pixels over which the added weight falls off, above 0.
        class_weights: Weight of a background pixel and weight of a nucleus' pixel.

    Returns:
        float32 `[H, W]`.

    Raises:
        ValueError: `sigma` is not positive, or `labels` is no label image.

    Examples:
        >>> border_weight_map(np.array([[1, 0, 2, 0, 0]]), w0=10, sigma=5).round(2)
        array([[10.23, 10.23, 10.23,  8.26,  5.87]], dtype=float32)
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be positive. Received: {sigma}")
    labels = _as_uint16(labels)
    nearest, second = _two_nearest_distances(labels, math.ceil(_REACH_IN_SIGMA * sigma))
    weights = np.float32(w0) * np.exp(-((nearest + second) ** 2) / np.float32(2 * sigma * sigma))
    weights += np.where(labels > 0, np.float32(class_weights[1]), np.float32(class_weights[0]))
    return weights


def append_weights(targets: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Puts a weight map behind the channels, where the weighted loss expects it.

    Args:
        targets: `[H, W, C]`, the channels.
        weights: `[H, W]`, weight of every pixel.

    Returns:
        float32 `[H, W, C + 1]`.
    """
    return np.concatenate([targets, weights[..., None]], axis=-1, dtype=np.float32)


def _as_uint16(labels: np.ndarray) -> np.ndarray:
    """Checks a label image and returns it as uint16, for which OpenCV's filters are fast."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or 0 in labels.shape or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"Targets need an integer label image [H, W]. Received: shape {labels.shape}, {labels.dtype}")
    if labels.min() < 0:
        raise ValueError(f"A label image has no negative labels. Received: {labels.min()}")
    if labels.max() > _MAX_LABEL:
        ids, numbers = np.unique(labels, return_inverse=True)
        # Number 0 stays the background's, also where there is no background.
        labels = numbers.reshape(labels.shape) + (ids[0] != 0)
        if labels.max() > _MAX_LABEL:
            raise ValueError(f"Targets are made of {_MAX_LABEL} nuclei at most. Received: {labels.max()}")
    return np.ascontiguousarray(labels, dtype=np.uint16)


@lru_cache(maxsize=32)
def disk(radius: int) -> np.ndarray:
    """Returns a disk as a structuring element: 1 at a Euclidean distance of `radius` or less from the centre.

    Args:
        radius: Radius in pixels, 1 or more.

    Returns:
        uint8 `[2 radius + 1, 2 radius + 1]`.

    Raises:
        ValueError: `radius` is not an integer of 1 or more.
    """
    if not isinstance(radius, int | np.integer) or radius < 1:
        raise ValueError(f"A radius must be an integer of 1 or more. Received: {radius!r}")
    squares = np.arange(-radius, radius + 1) ** 2
    return (squares[:, None] + squares <= radius * radius).astype(np.uint8)


def _claimed_twice(labels: np.ndarray, width: int) -> np.ndarray:
    """Finds the pixels where the smallest and the largest label within reach differ."""
    # Counted down, nuclei keep out of the background's way in a maximum filter: the smallest label comes out on top.
    downwards = np.where(labels > 0, np.uint16(_MAX_LABEL + 1) - labels, np.uint16(0))
    largest = cv2.dilate(labels, disk(width))
    smallest = np.uint16(_MAX_LABEL + 1) - cv2.dilate(downwards, disk(width))
    return (largest > 0) & (largest != smallest)


def _borderless(labels: np.ndarray, width: int) -> np.ndarray:
    disk(width)
    waiting = np.bincount(labels.ravel()) > 0
    waiting[0] = False
    allowed = None
    cores = np.zeros(labels.shape, bool)
    for radius in range(width, 0, -1):
        inside = (labels > 0) & (cv2.erode(labels, disk(radius)) == cv2.dilate(labels, disk(radius)))
        left = _pieces_of_eroded(inside, labels, len(waiting))
        done = waiting & (left == 1)
        if (left[waiting] > 1).any():
            # Slow to count, and hardly ever needed.
            allowed = _pieces(labels) if allowed is None else allowed
            done = waiting & (left > 0) & (left <= allowed)
        cores |= inside & done[labels]
        waiting &= ~done
        if not waiting.any():
            return cores
    return cores | waiting[labels]


def _core(labels: np.ndarray) -> np.ndarray:
    inside = (labels > 0) & (cv2.erode(labels, disk(1)) == cv2.dilate(labels, disk(1)))
    # A pixel on the outline has its centre half a pixel inside.
    depth = distance_to_background(inside) + np.float32(0.5)
    deepest = np.zeros(int(labels.max()) + 1, np.float32)
    np.maximum.at(deepest, labels.ravel(), depth.ravel())
    cores = (labels > 0) & (depth > np.float32(_CORE_DEPTH) * deepest[labels])
    count, components = cv2.connectedComponents(cores.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    owner = np.zeros(count, np.int64)
    owner[components[cores]] = labels[cores]
    areas = np.bincount(components[cores], minlength=count)
    largest = np.zeros(len(deepest), np.int64)
    np.maximum.at(largest, owner, areas)
    # Nuclei of one component are too narrow to have a core: all of it stays.
    shared = np.zeros(count, bool)
    shared[components[cores][owner[components[cores]] != labels[cores]]] = True
    return cores & ((areas == largest[owner]) | shared)[components]


def _pieces_of_eroded(inside: np.ndarray, labels: np.ndarray, length: int) -> np.ndarray:
    """Counts the 4-connected pieces of every label in an erosion of all: there, no two labels are neighbours."""
    count, components = cv2.connectedComponents(inside.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    owner = np.zeros(count, np.int64)
    owner[components[inside]] = labels[inside]
    return np.bincount(owner[1:], minlength=length)


def _pieces(labels: np.ndarray) -> np.ndarray:
    """Counts the 4-connected pieces of every label."""
    components, count = measure.label(labels, connectivity=1, return_num=True)
    owner = np.zeros(count + 1, np.int64)
    owner[components.ravel()] = labels.ravel()
    return np.bincount(owner[1:], minlength=int(labels.max()) + 1)


def _two_nearest_distances(labels: np.ndarray, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Measures the distances to the border of the nearest and of the second nearest nucleus.

    Returns:
        Two float32 `[H, W]`; infinite where no such border is within `reach` pixels.
    """
    # At the image's edge OpenCV's filters take neither smaller nor larger values from outside.
    outlines = np.where(cv2.erode(labels, disk(1)) == cv2.dilate(labels, disk(1)), np.uint16(0), labels)
    nearest = np.full(labels.shape, np.inf, np.float32)
    second = np.full(labels.shape, np.inf, np.float32)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        window = tuple(
            slice(max(side.start - reach, 0), min(side.stop + reach, size))
            for side, size in zip(box, labels.shape, strict=True)
        )
        elsewhere = outlines[window] != number
        if elsewhere.all():
            continue  # A nucleus that fills the image has no border in it.
        distance = distance_to_background(elsewhere)
        np.minimum(second[window], np.maximum(nearest[window], distance), out=second[window])
        np.minimum(nearest[window], distance, out=nearest[window])
    return nearest, second


# Channel -> function of (labels uint16 [H, W], border width, erosion width, channels already made) to bool [H, W].
_CHANNEL_MAKERS: dict[str, Callable[[np.ndarray, int, int, dict[str, np.ndarray]], np.ndarray]] = {
    "mask": lambda labels, border_width, erosion_width, made: labels > 0,
    "border": lambda labels, border_width, erosion_width, made: _claimed_twice(labels, border_width),
    "borderless": lambda labels, border_width, erosion_width, made: _borderless(labels, erosion_width),
    "core": lambda labels, border_width, erosion_width, made: _core(labels),
    "touching": lambda labels, border_width, erosion_width, made: (
        _claimed_twice(labels, border_width) & ~made["core" if "core" in made else "borderless"]
    ),
}
