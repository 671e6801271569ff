"""Augmentation of an image and its label image together with imgaug, repeatable and safe in threads."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from trainkit.imgaug_compat import ia, iaa


def check_augmenter(augmenter: Any) -> None:
    """Checks that an augmentation is an imgaug augmenter.

    Args:
        augmenter: Argument `augmentation` of a training.

    Raises:
        ValueError: It is something else, such as a list of augmenters.
    """
    if not isinstance(augmenter, iaa.Augmenter):
        raise ValueError(
            "augmentation must be one imgaug augmenter; several are joined by iaa.Sequential([...]). "
            f"Received: {type(augmenter).__name__}"
        )


def augment_pair(augmenter: Any, image: np.ndarray, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Applies one draw of an augmenter to an image and, where it moves pixels, to its label image.

    Label images go through as segmentation maps: imgaug moves them with nearest-neighbour sampling and leaves them
    alone in colour, blur and noise. Labels that leave the image are gone; the others keep their numbers. A copy of
    the augmenter is seeded, so threads may share one, and imgaug's global random state plays no part.

    Args:
        augmenter: imgaug augmenter.
        image: uint8 [H, W, 3], RGB.
        labels: Label image int32 [H, W], or several of them, [H, W, C].
        seed: Seed of the draw, 0 to 2**32 - 1; one seed always draws the same.

    Returns:
        (image uint8 [H', W', 3], labels int32 of the rank received); H' and W' differ from H and W only if the
        augmenter changes an image's size.

    Raises:
        ValueError: Image and labels differ in height or width, or `augmenter` is no augmenter.
    """
    check_augmenter(augmenter)
    if image.shape[:2] != labels.shape[:2]:
        raise ValueError(f"image and labels must have one height and width; received {image.shape}, {labels.shape}")
    drawn = copy.deepcopy(augmenter)
    drawn.seed_(int(seed))
    maps = ia.SegmentationMapsOnImage(labels.astype(np.int32, copy=False), shape=image.shape)
    image, maps = drawn(image=image, segmentation_maps=maps)
    moved = maps.get_arr()
    return np.ascontiguousarray(image), np.ascontiguousarray(moved, dtype=np.int32)
