"""Access to a data set's images in training."""

from __future__ import annotations

from typing import Any

import numpy as np


def draw_sample(dataset: Any, image_id: int, rng: np.random.Generator) -> tuple[np.ndarray, Any]:
    """Returns an image with its labels, varied at random if the data set does that.

    A data set may have a method `draw_sample(image_id, rng)` for augmentation beyond single images, such as mixing
    images; it is called in training only, from several threads at once. Every random choice in it must come from `rng`.

    Args:
        dataset: Data set with `draw_sample`, or with `load_image` and `load_labels`.
        image_id: Index of the image.
        rng: Generator of every random choice.

    Returns:
        (result of `load_image`, result of `load_labels`).
    """
    draw = getattr(dataset, "draw_sample", None)
    if draw is not None:
        return draw(image_id, rng)
    return dataset.load_image(image_id), dataset.load_labels(image_id)
