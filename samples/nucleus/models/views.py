"""Views of an image for test-time augmentation (flips, right-angle rotations, scales) and their inverses.

Views are made of the preprocessed image, so that all of them show the same picture: the tiles of CLAHE would have other
borders in a rotated or scaled image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

# Name -> (whether left and right are mirrored first, number of counter-clockwise quarter turns) of each view.
SYMMETRIES: dict[str, tuple[tuple[bool, int], ...]] = {
    "none": ((False, 0),),
    "flips": ((False, 0), (True, 0), (True, 2), (False, 2)),
    "flips-rotations": tuple((mirrored, turns) for turns in (0, 2, 1, 3) for mirrored in (False, True)),
}


def resize(image: np.ndarray, shape: tuple[int, int], interpolation: int) -> np.ndarray:
    """Resizes an image of any number of channels; OpenCV averages areas of up to four.

    Args:
        image: `[H, W, C]`.
        shape: (height, width) of the result.
        interpolation: Method of OpenCV, such as `cv2.INTER_AREA`.

    Returns:
        `[height, width, C]` of the same type.
    """
    groups = [np.ascontiguousarray(image[:, :, first : first + 4]) for first in range(0, image.shape[2], 4)]
    resized = [cv2.resize(group, shape[::-1], interpolation=interpolation).reshape(*shape, -1) for group in groups]
    return resized[0] if len(resized) == 1 else np.concatenate(resized, axis=2)


@dataclass(frozen=True)
class View:
    """A view of an image, and its inverse.

    Flips and rotations are exact. Scaling maps the whole image onto the whole view with half-pixel centres, so that
    nothing shifts when a side is odd or not divisible.

    Attributes:
        mirrored: True if left and right are exchanged, before rotation.
        quarter_turns: Number of counter-clockwise quarter turns, 0 to 3.
        scale: Factor of height and width, above 0; the sides are rounded to at least 1 pixel.
    """

    mirrored: bool = False
    quarter_turns: int = 0
    scale: float = 1.0

    def __str__(self) -> str:
        changes = ["mirrored"] * self.mirrored
        changes += [f"turned by {90 * self.quarter_turns} degrees"] * (self.quarter_turns > 0)
        changes += [f"scaled by {self.scale:g}"] * (self.scale != 1)
        return " and ".join(changes) or "unchanged"

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Makes the view of an image.

        Args:
            image: `[H, W, C]`. Smaller views average its pixels, larger ones interpolate linearly.

        Returns:
            `[h, w, C]` of the same type.
        """
        height, width = self.scaled(image.shape[:2])
        if (height, width) != image.shape[:2]:
            method = cv2.INTER_AREA if self.scale < 1 else cv2.INTER_LINEAR
            image = resize(image, (height, width), method)
        mirrored = image[:, ::-1] if self.mirrored else image
        return np.ascontiguousarray(np.rot90(mirrored, self.quarter_turns))

    def restore(self, probabilities: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Maps the probabilities of the view's pixels back to the image.

        Args:
            probabilities: float32 `[h, w, C]` in 0..1.
            shape: (height, width) of the image.

        Returns:
            float32 `[height, width, C]` in 0..1, interpolated linearly if the view is scaled.
        """
        probabilities = self._turn_back(probabilities)
        if probabilities.shape[:2] != shape:
            resized = cv2.resize(probabilities, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)
            probabilities = np.clip(resized, 0, 1).reshape(*shape, -1)
        return probabilities

    def restore_instances(
        self, boxes: np.ndarray, crops: Sequence[np.ndarray], shape: tuple[int, int]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Maps instances of the view back to the image.

        Args:
            boxes: int `[N, 4]`, (y1, x1, y2, x2) in pixels of the view, y2 and x2 exclusive.
            crops: N arrays `[y2 - y1, x2 - x1]`, the probabilities of the pixels in each box, or masks.
            shape: (height, width) of the image.

        Returns:
            boxes: int64 `[N, 4]` in pixels of the image. An instance of a larger view without a pixel centre of the
                image has a box without area.
            crops: N float32 arrays in 0..1 of the boxes' sizes, interpolated linearly if the view is scaled.
        """
        scaled = self.scaled(shape)
        boxes = self._turn_boxes_back(np.asarray(boxes, np.int64).reshape(-1, 4), scaled)
        crops = [self._turn_back(np.asarray(crop, np.float32)) for crop in crops]
        if scaled != shape:
            restored = [_rescale(*instance, scaled, shape) for instance in zip(boxes, crops, strict=True)]
            boxes = np.array([box for box, _ in restored], np.int64).reshape(-1, 4)
            crops = [crop for _, crop in restored]
        return boxes, crops

    def scaled(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Returns the (height, width) of the view, before rotation, of an image `[H, W, ...]` of some shape."""
        height, width = (max(1, round(side * self.scale)) for side in shape[:2])
        return height, width

    def _turn_back(self, array: np.ndarray) -> np.ndarray:
        array = np.rot90(array, -self.quarter_turns)
        return np.ascontiguousarray(array[:, ::-1] if self.mirrored else array)

    def _turn_boxes_back(self, boxes: np.ndarray, scaled: tuple[int, int]) -> np.ndarray:
        height, width = scaled if self.quarter_turns % 2 == 0 else scaled[::-1]
        y1, x1, y2, x2 = boxes.T
        for _ in range(self.quarter_turns):
            y1, x1, y2, x2 = x1, height - y2, x2, height - y1
            height, width = width, height
        if self.mirrored:
            x1, x2 = width - x2, width - x1
        return np.stack([y1, x1, y2, x2], axis=1)


def make_views(symmetries: str = "none", scales: Sequence[float] = (1.0,)) -> tuple[View, ...]:
    """Returns every symmetry at every scale.

    Args:
        symmetries: Key of `SYMMETRIES`: "none"; "flips", the four views of mirroring (left-right, upside down, both);
            or "flips-rotations", the eight views of mirroring and right-angle rotations.
        scales: Different factors above 0; 1 is the image's own size.

    Returns:
        The views, sorted by scale in the given order.

    Raises:
        ValueError: The name is unknown, or a scale is repeated or not above 0.
    """
    if symmetries not in SYMMETRIES:
        raise ValueError(f"The views must be one of {', '.join(SYMMETRIES)}. Received: {symmetries!r}")
    if not len(scales) or len(set(scales)) < len(scales) or any(not 0 < scale < math.inf for scale in scales):
        raise ValueError(f"Scales of views are numbers above 0, none twice. Received: {scales!r}")
    return tuple(View(*symmetry, float(scale)) for scale in scales for symmetry in SYMMETRIES[symmetries])


def _rescale(
    box: np.ndarray, crop: np.ndarray, source: tuple[int, int], target: tuple[int, int]
) -> tuple[tuple[int, ...], np.ndarray]:
    """Rescales one instance from an image of one size to the same image at another.

    Args:
        box: int `[4]`, (y1, x1, y2, x2) in pixels of the source.
        crop: float32 `[y2 - y1, x2 - x1]`.
        source: (height, width) of the source.
        target: (height, width) of the target.

    Returns:
        The box of the target's pixels with centres in the scaled box, and its crop.
    """
    ends = []
    for axis, (old, new) in enumerate(zip(source, target, strict=True)):
        low, high = int(box[axis]), int(box[axis + 2])
        first, last = (math.ceil(edge * new / old - 0.5) for edge in (low, high))
        centres = (np.arange(first, last) + 0.5) * (old / new) - 0.5 - low
        crop = _interpolate(crop, np.clip(centres, 0, max(high - low - 1, 0)), axis)
        ends.append((first, last))
    (y1, y2), (x1, x2) = ends
    return (y1, x1, y2, x2), crop


def _interpolate(values: np.ndarray, places: np.ndarray, axis: int) -> np.ndarray:
    """Interpolates linearly along one axis, at places in 0..length - 1."""
    lower = places.astype(np.intp)
    upper = np.minimum(lower + 1, max(values.shape[axis] - 1, 0))
    share = (places - lower).astype(np.float32)
    share = share[:, None] if axis == 0 else share
    return np.take(values, lower, axis) * (1 - share) + np.take(values, upper, axis) * share
