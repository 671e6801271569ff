"""Label images, and conversions from and to masks, Kaggle's run-length code, boxes and centroids.

A label image is int32 [H, W]: 0 is background, 1...N are the instances, disjoint by construction. Time and memory
grow with the number of pixels and with the highest label, never with their product, except where the argument or the
result is a mask stack.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from trainkit.label_images import areas as areas
from trainkit.label_images import drop_small as drop_small
from trainkit.label_images import relabel_sequential as relabel_sequential


def labels_to_masks(labels: np.ndarray, count: int | None = None) -> np.ndarray:
    """Expands a label image to a mask stack.

    Examples:
        >>> labels_to_masks(np.array([[0, 1, 1, 2]]))[..., 0]
        array([[False,  True,  True, False]])

    Args:
        labels: int [H, W].
        count: Number of masks; by default the highest label. Labels above it are left out.

    Returns:
        bool [H, W, count], mask k is label k + 1.
    """
    count = int(labels.max(initial=0)) if count is None else count
    return labels[..., None] == np.arange(1, count + 1)


def differing_sides(labels: np.ndarray) -> np.ndarray:
    """Compares every pixel with its four neighbours.

    Args:
        labels: Integer `[H, W]`, label image.

    Returns:
        bool `[4, H, W]`, True where the pixel above, below, left or right has another label; False at the image's edge.
    """
    sides = np.zeros((4, *labels.shape), bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    sides[0, 1:], sides[1, :-1] = down, down
    sides[2, :, 1:], sides[3, :, :-1] = right, right
    return sides


def bounding_boxes(labels: np.ndarray) -> np.ndarray:
    """Computes the bounding boxes of all labels.

    Examples:
        >>> bounding_boxes(np.array([[0, 1, 1], [2, 0, 1]]))
        array([[0, 1, 2, 3],
               [1, 0, 2, 1]], dtype=int32)

    Args:
        labels: int [H, W].

    Returns:
        int32 [N, 4], (y1, x1, y2, x2) in pixels with y2 and x2 exclusive, N the highest label; a label without a pixel
        has a box of zeros.
    """
    boxes = [
        (0, 0, 0, 0) if found is None else (found[0].start, found[1].start, found[0].stop, found[1].stop)
        for found in ndimage.find_objects(labels)
    ]
    return np.array(boxes, np.int32).reshape(-1, 4)


def centroids(labels: np.ndarray) -> np.ndarray:
    """Computes the centres of mass of all labels.

    Args:
        labels: int [H, W].

    Returns:
        float64 [N, 2], (y, x) in pixels, where (0, 0) is the centre of the top left pixel and N the highest label; NaN
        for a label without a pixel.
    """
    y, x = np.nonzero(labels)
    which = labels[y, x]
    counts = np.bincount(which, minlength=1)[1:]
    sums = np.stack([np.bincount(which, weights=axis, minlength=1)[1:] for axis in (y, x)], axis=1)
    return np.divide(sums, counts[:, None], out=np.full(sums.shape, np.nan), where=counts[:, None] > 0)


def rle_encode(mask: np.ndarray) -> str:
    """Encodes one mask as Kaggle's run-length code.

    Examples:
        >>> rle_encode(np.array([[0, 1], [1, 1]]))
        '2 3'

    Args:
        mask: bool [H, W].

    Returns:
        "start length start length ...", with pixels counted from 1 down the columns, left to right; "" for an empty
        mask.
    """
    codes = labels_to_rle(np.asarray(mask, bool).astype(np.int32))
    return codes[0] if codes else ""


def rle_decode(code: str, shape: tuple[int, int]) -> np.ndarray:
    """Decodes Kaggle's run-length code of one mask.

    Examples:
        >>> rle_decode("2 3", (2, 2))
        array([[False,  True],
               [ True,  True]])

    Args:
        code: "start length start length ...", with pixels counted from 1 down the columns, left to right.
        shape: (height, width) of the image.

    Returns:
        bool [H, W].

    Raises:
        ValueError: The code is malformed or does not fit the shape.
    """
    starts, lengths = rle_runs(code, shape)
    steps = np.zeros(shape[0] * shape[1] + 1, np.int8)
    steps[starts] += 1
    steps[starts + lengths] -= 1
    return np.cumsum(steps[:-1]).astype(bool).reshape(shape[1], shape[0]).T


def rle_runs(code: str, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Parses Kaggle's run-length code of one mask.

    Args:
        code: "start length start length ...", with pixels counted from 1 down the columns, left to right.
        shape: (height, width) of the image.

    Returns:
        (starts, lengths), both int64 [R], with pixels counted from 0 down the columns, left to right; starts ascend
        and runs do not overlap.

    Raises:
        ValueError: The code is malformed or does not fit the shape.
    """
    try:
        numbers = np.array(code.split(), np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"a run-length code holds whole numbers only; received {code[:60]!r}") from error
    if numbers.size % 2:
        raise ValueError(f"a run-length code holds pairs; received {numbers.size} numbers")
    starts, lengths = numbers[0::2] - 1, numbers[1::2]
    ends = starts + lengths
    # All three are compared, since the sum of two very large numbers wraps around.
    highest = max(starts.max(initial=0), lengths.max(initial=0), ends.max(initial=0))
    if numbers.size and (starts.min() < 0 or lengths.min() < 1 or highest > shape[0] * shape[1]):
        raise ValueError(f"a run lies outside an image of {shape[0]} x {shape[1]} pixels or has no length")
    if np.any(starts[1:] < ends[:-1]):
        raise ValueError("the runs of a run-length code must be in ascending order and must not overlap")
    return starts, lengths


def labels_to_rle(labels: np.ndarray) -> list[str]:
    """Encodes all labels as Kaggle's run-length codes, in one pass over the image.

    Args:
        labels: int [H, W].

    Returns:
        The codes (see `rle_encode`) of labels 1 to the highest one; "" for a label without a pixel.
    """
    flat = labels.T.ravel()
    if flat.size == 0:
        return []
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(starts, append=flat.size)
    which = flat[starts]
    order = np.argsort(which, kind="stable")  # stable: the runs of a label stay in ascending order
    numbers = np.stack([starts + 1, lengths], axis=1)[order].ravel().tolist()
    bounds = 2 * np.searchsorted(which[order], np.arange(1, which.max() + 2))
    return [" ".join(map(str, numbers[a:b])) for a, b in itertools.pairwise(bounds)]


def paint(
    boxes: np.ndarray,
    crops: Sequence[np.ndarray],
    scores: np.ndarray,
    shape: tuple[int, int],
    rule: str = "score",
) -> tuple[np.ndarray, np.ndarray]:
    """Paints instances into one label image, and assigns pixels in several instances to one of them.

    Args:
        boxes: int [N, 4], (y1, x1, y2, x2) in pixels, y2 and x2 exclusive, inside the image.
        crops: N masks, bool [y2 - y1, x2 - x1], one instance each inside its box.
        scores: float [N] of the instances.
        shape: (height, width) of the image.
        rule: Key of `OVERLAP_RULES`. "score": the instance with the higher score keeps the pixel, as in matterport's
            Mask_RCNN; "largest": the instance with more pixels keeps it; "nearest-centroid": the instance with the
            nearest centroid gets it. Ties go to the higher score, then to the earlier instance.

    Returns:
        (labels int32 [H, W], kept int64 [M], ascending): label k + 1 is instance kept[k]. Instances left without a
        pixel are not kept.

    Raises:
        ValueError: The rule is unknown, a box leaves the image, or a crop and its box differ in shape.
    """
    if rule not in OVERLAP_RULES:
        raise ValueError(f"the overlap rule must be one of {', '.join(OVERLAP_RULES)}; received {rule!r}")
    boxes = np.asarray(boxes, np.int64).reshape(-1, 4)
    _check_instances(boxes, crops, scores, shape)
    labels = np.zeros(shape, np.int32)
    OVERLAP_RULES[rule](labels, boxes, crops, np.argsort(-np.asarray(scores, np.float64), kind="stable"))
    return relabel_sequential(labels)


def _paint_in_order(labels: np.ndarray, boxes: np.ndarray, crops: Sequence[np.ndarray], order: np.ndarray) -> None:
    for i in order:
        y1, x1, y2, x2 = boxes[i]
        region = labels[y1:y2, x1:x2]
        region[crops[i] & (region == 0)] = i + 1


def _paint_largest_first(labels: np.ndarray, boxes: np.ndarray, crops: Sequence[np.ndarray], order: np.ndarray) -> None:
    sizes = np.array([np.count_nonzero(crop) for crop in crops], np.int64)
    _paint_in_order(labels, boxes, crops, order[np.argsort(-sizes[order], kind="stable")])


def _paint_nearest(labels: np.ndarray, boxes: np.ndarray, crops: Sequence[np.ndarray], order: np.ndarray) -> None:
    nearest = np.full(labels.shape, np.inf, np.float32)
    for i in order:
        y1, x1, y2, x2 = boxes[i]
        y, x = np.nonzero(crops[i])
        if y.size == 0:
            continue
        distance = ((y - y.mean()) ** 2 + (x - x.mean()) ** 2).astype(np.float32)
        won = distance < nearest[y1:y2, x1:x2][y, x]
        y, x = y[won] + y1, x[won] + x1
        nearest[y, x] = distance[won]
        labels[y, x] = i + 1


# Rule -> function that paints instances into a label image, given their order by descending score.
OVERLAP_RULES: dict[str, Callable[[np.ndarray, np.ndarray, Sequence[np.ndarray], np.ndarray], None]] = {
    "score": _paint_in_order,
    "largest": _paint_largest_first,
    "nearest-centroid": _paint_nearest,
}


def _check_instances(boxes: np.ndarray, crops: Sequence[np.ndarray], scores: np.ndarray, shape) -> None:
    if not len(boxes) == len(crops) == len(scores):
        raise ValueError(f"received {len(boxes)} boxes, {len(crops)} crops and {len(scores)} scores")
    for i, (box, crop) in enumerate(zip(boxes.tolist(), crops, strict=True)):
        y1, x1, y2, x2 = box
        if not (0 <= y1 <= y2 <= shape[0] and 0 <= x1 <= x2 <= shape[1]):
            raise ValueError(f"box {i} {tuple(box)} leaves the image of {shape[0]} x {shape[1]} pixels")
        if crop.shape != (y2 - y1, x2 - x1):
            raise ValueError(f"crop {i} has shape {crop.shape}; its box {tuple(box)} needs {(y2 - y1, x2 - x1)}")
