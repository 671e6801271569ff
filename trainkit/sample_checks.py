"""Checks of images and of what a data set returns; errors name the image, what came and what was expected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def check_image(image: Any, channels: int, name: str) -> np.ndarray:
    """Checks the result of `load_image`.

    Args:
        image: Image, `[H, W, channels]` of any real dtype.
        channels: Number of channels of the network's input.
        name: Name of the image in errors.

    Returns:
        The image as an array.

    Raises:
        ValueError: It has another form, no pixels, or values that are no finite numbers.
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] != channels or not image.size or image.dtype.kind not in "uif":
        raise ValueError(
            f"{name}: expected an image [H, W, {channels}] of numbers (IMAGE_CHANNEL_COUNT is {channels}). "
            f"Received: shape {image.shape}, {image.dtype}"
        )
    _require_finite(image, name, "pixels", "an image")
    return image


def check_images(images: Sequence[Any], channels: int) -> list[np.ndarray]:
    """Checks images to predict.

    Args:
        images: Images, `[H, W, channels]` each, of any sizes.
        channels: Number of channels of the network's input.

    Returns:
        The images as arrays.

    Raises:
        ValueError: An image has no pixels, the wrong channels, or values that are no finite numbers; the message has
            its number from 1 on.
    """
    checked = [np.asarray(image) for image in images]
    for number, image in enumerate(checked, start=1):
        name = f"Image {number} of {len(checked)}"
        if image.ndim != 3 or image.shape[2] != channels or image.size == 0 or image.dtype.kind not in "buif":
            raise ValueError(
                f"{name}: Expected an image [H, W, {channels}] with pixels. "
                f"Received: shape {image.shape}, {image.dtype}"
            )
        _require_finite(image, name, "pixels", "an image")
    return checked


def check_class_ids(class_ids: Any, class_count: int, name: str) -> np.ndarray:
    """Checks the class ids of an image's instances.

    Args:
        class_ids: Whole numbers `[N]`, 1 to `class_count` - 1, or the same below 0 for crowds.
        class_count: Number of classes with the background.
        name: Name of the image in errors.

    Returns:
        int32 `[N]`.

    Raises:
        ValueError: They have another form, are no whole numbers, or are out of range.
    """
    ids = np.asarray(class_ids)
    whole = ids.dtype.kind in "iu" or (ids.dtype.kind == "f" and bool((ids == np.rint(ids)).all()))
    if ids.ndim != 1 or not whole:
        raise ValueError(f"{name}: expected class ids [N], whole numbers. Received: shape {ids.shape}, {ids.dtype}")
    sizes = np.abs(ids.astype(np.float64))
    wrong = ids[(sizes < 1) | (sizes >= class_count)]
    if len(wrong):
        raise ValueError(
            f"{name}: expected class ids of 1 to {class_count - 1} (NUM_CLASSES is {class_count} with the background), "
            f"or of -1 to {1 - class_count} for crowds. Received: {np.unique(wrong)[:5].tolist()}"
        )
    return ids.astype(np.int32)


def check_labels(labels: Any, image_shape: Sequence[int], name: str) -> np.ndarray:
    """Checks the label image of an image.

    Args:
        labels: Label image, integers `[H, W]`, 0 background.
        image_shape: (height, width, ...) of the image.
        name: Name of the image in errors.

    Returns:
        int32 `[H, W]`; the input itself if it is that.

    Raises:
        ValueError: It has another form, other than whole numbers, or another size than the image.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iub":
        raise ValueError(
            f"{name}: expected a label image [H, W] of integers. Received: shape {labels.shape}, {labels.dtype}"
        )
    if labels.shape != tuple(image_shape[:2]):
        raise ValueError(
            f"{name}: expected a label image of the image's height and width. "
            f"Received: image and label image of the shapes {tuple(image_shape)} and {labels.shape}"
        )
    if labels.size and (labels.min() < 0 or labels.max() > np.iinfo(np.int32).max):
        raise ValueError(
            f"{name}: expected labels of 0 (background) and above, up to 2**31 - 1. "
            f"Received: {labels.min()} to {labels.max()}"
        )
    return labels.astype(np.int32, copy=False)


def check_masks(masks: Any, image_shape: Sequence[int], name: str) -> np.ndarray:
    """Checks the masks of an image's instances.

    Args:
        masks: `[H, W, N]` of booleans or numbers; without instances, H and W may be any.
        image_shape: (height, width, ...) of the image.
        name: Name of the image in errors.

    Returns:
        The masks as an array.

    Raises:
        ValueError: They have another form, another size than the image, or values that are no finite numbers.
    """
    masks = np.asarray(masks)
    if masks.ndim != 3 or masks.dtype.kind not in "buif":
        raise ValueError(
            f"{name}: expected masks [H, W, N], one for each instance. Received: shape {masks.shape}, {masks.dtype}"
        )
    if masks.shape[2] and masks.shape[:2] != tuple(image_shape[:2]):
        raise ValueError(
            f"{name}: masks and image must have the same height and width. "
            f"Received: masks {masks.shape[:2]}, image {tuple(image_shape[:2])}"
        )
    # What is not 0 belongs to an instance, so NaN would.
    _require_finite(masks, name, "masks", "masks")
    return masks


def _require_finite(array: np.ndarray, name: str, what: str, received: str) -> None:
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ValueError(f"{name}: expected finite {what}. Received: {received} with NaN or infinite values")


def check_pair(loaded: Any, name: str) -> tuple[Any, Any]:
    """Checks that instances come with their class ids.

    Args:
        loaded: Result of `load_mask` or `load_labels`.
        name: Name of the image in errors.

    Returns:
        Masks or label image, and class ids.

    Raises:
        ValueError: It is no pair.
    """
    if not isinstance(loaded, tuple | list) or len(loaded) != 2:
        received = f"{len(loaded)} values" if isinstance(loaded, tuple | list) else type(loaded).__name__
        raise ValueError(f"{name}: expected two values, masks or a label image and the class ids. Received: {received}")
    return loaded[0], loaded[1]
