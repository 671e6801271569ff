"""Instance masks: their boxes, their small fixed-size form, and their way back to image size.

Masks are resampled bilinearly with half-pixel centres and zeros outside the grid, which is what
`skimage.transform.resize(order=1, mode="constant", anti_aliasing=False)` computes. Bilinear resampling is
separable, so it is exactly two products with small interpolation matrices; these depend on sizes only and
are cached.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=512)
def interpolation_matrix(size_in: int, size_out: int) -> np.ndarray:
    """Builds the matrix that resamples a row of `size_in` values to `size_out` values.

    Output i lies at input coordinate `(i + 0.5) * size_in / size_out - 0.5`. What lies outside the input
    counts as zero, so rows next to the border may sum to less than one.

    Args:
        size_in: Number of input values, from 1 on.
        size_out: Number of output values, from 0 on.

    Returns:
        float32 `[size_out, size_in]`, read-only because it is shared between callers.
    """
    positions = (np.arange(size_out) + 0.5) * (size_in / size_out if size_out else 1.0) - 0.5
    lower = np.floor(positions).astype(np.intp)
    fraction = positions - lower
    matrix = np.zeros((size_out, size_in), np.float32)
    for index, weight in ((lower, 1.0 - fraction), (lower + 1, fraction)):
        rows = np.flatnonzero((index >= 0) & (index < size_in))
        matrix[rows, index[rows]] = weight[rows]
    matrix.flags.writeable = False
    return matrix


def resize_mask_probabilities(mask: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resizes one mask bilinearly with half-pixel centres and zeros outside.

    Args:
        mask: `[h, w]` probabilities in 0..1, or a bool mask.
        shape: (height, width) of the result.

    Returns:
        float32 `[height, width]` in 0..1.
    """
    height, width = int(shape[0]), int(shape[1])
    rows = interpolation_matrix(mask.shape[0], height)
    columns = interpolation_matrix(mask.shape[1], width)
    mask = mask.astype(np.float32, copy=False)
    return rows @ mask @ columns.T


def extract_bboxes(mask: np.ndarray) -> np.ndarray:
    """Computes the tight box of every mask.

    Args:
        mask: `[H, W, N]`; non-zero pixels belong to the instance.

    Returns:
        int32 `[N, (y1, x1, y2, x2)]` in pixels, y2 and x2 exclusive. The box of an empty mask is all zeros.

    Examples:
        >>> masks = np.zeros((6, 8, 2), bool)
        >>> masks[1:4, 2:7, 0] = True
        >>> extract_bboxes(masks).tolist()
        [[1, 2, 4, 7], [0, 0, 0, 0]]
    """
    if mask.size == 0:
        return np.zeros((mask.shape[-1], 4), np.int32)
    rows = mask.any(axis=1)
    columns = mask.any(axis=0)
    boxes = np.stack(
        [
            rows.argmax(axis=0),
            columns.argmax(axis=0),
            rows.shape[0] - rows[::-1].argmax(axis=0),
            columns.shape[0] - columns[::-1].argmax(axis=0),
        ],
        axis=1,
    )
    boxes[~rows.any(axis=0)] = 0
    return boxes.astype(np.int32)


def minimize_mask(bbox: np.ndarray, mask: np.ndarray, mini_shape: Sequence[int]) -> np.ndarray:
    """Cuts every mask to its box and resizes it to one small size, so that many of them fit into memory.

    Args:
        bbox: int `[N, 4]` or more columns, (y1, x1, y2, x2) in pixels, y2 and x2 exclusive.
        mask: `[H, W, N]` masks.
        mini_shape: (height, width) of the small masks.

    Returns:
        bool `[height, width, N]`; True where more than half of the pixel is covered.

    Raises:
        ValueError: A box has no area.

    Examples:
        >>> mask = np.zeros((8, 8, 1), bool)
        >>> mask[2:6, 2:6] = True
        >>> small = minimize_mask(extract_bboxes(mask), mask, (2, 2))
        >>> small.shape
        (2, 2, 1)
        >>> bool((expand_mask(extract_bboxes(mask), small, mask.shape) == mask).all())
        True
    """
    mini_masks = np.zeros((*(int(side) for side in mini_shape), mask.shape[-1]), bool)
    for i, (y1, x1, y2, x2) in enumerate(np.asarray(bbox)[:, :4]):
        crop = mask[y1:y2, x1:x2, i].astype(bool)
        if crop.size == 0:
            raise ValueError(
                f"Invalid bounding box with area of zero. Received: box {i} = {[y1, x1, y2, x2]} "
                f"in a mask of shape {mask.shape[:2]}"
            )
        mini_masks[:, :, i] = resize_mask_probabilities(crop, mini_shape) > 0.5
    return mini_masks


def expand_mask(bbox: np.ndarray, mini_mask: np.ndarray, image_shape: Sequence[int]) -> np.ndarray:
    """Enlarges small masks to their boxes at image size; the inverse of `minimize_mask`.

    Args:
        bbox: int `[N, 4]` or more columns, (y1, x1, y2, x2) in pixels, y2 and x2 exclusive.
        mini_mask: `[h, w, N]`, the result of `minimize_mask`.
        image_shape: (height, width, ...) of the image.

    Returns:
        bool `[height, width, N]`.
    """
    masks = np.zeros((int(image_shape[0]), int(image_shape[1]), mini_mask.shape[-1]), bool)
    for i, (y1, x1, y2, x2) in enumerate(np.asarray(bbox)[:, :4]):
        small = mini_mask[:, :, i].astype(bool)
        masks[y1:y2, x1:x2, i] = resize_mask_probabilities(small, (y2 - y1, x2 - x1)) > 0.5
    return masks


def unmold_mask(
    mask: np.ndarray, bbox: Sequence[int], image_shape: Sequence[int], threshold: float = 0.5
) -> np.ndarray:
    """Enlarges a predicted mask to its box at image size.

    Args:
        mask: float `[h, w]` probabilities in 0..1, typically 28 x 28.
        bbox: (y1, x1, y2, x2) of the mask in pixels, inside the image, y2 and x2 exclusive.
        image_shape: (height, width, ...) of the image.
        threshold: Probability from which a pixel belongs to the instance.

    Returns:
        bool `[height, width]`.
    """
    y1, x1, y2, x2 = (int(side) for side in bbox[:4])
    full_mask = np.zeros((int(image_shape[0]), int(image_shape[1])), bool)
    full_mask[y1:y2, x1:x2] = resize_mask_probabilities(mask, (y2 - y1, x2 - x1)) >= threshold
    return full_mask
