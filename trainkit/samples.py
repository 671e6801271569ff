"""How training takes an image from a data set."""

from __future__ import annotations

from typing import Any

import numpy as np


def draw_sample(dataset: Any, image_id: int, rng: np.random.Generator) -> tuple[np.ndarray, Any]:
    """Returns an image with its labels, varied at random where the data set does that.

    A data set may have a method `draw_sample(image_id, rng)` for what an augmenter of single images cannot do, such as
    mixing images; it is not called outside of training. Every random choice in it must come from `rng`, and it is
    called from several threads at once.

    Args:
        dataset: Gives `draw_sample`, or `load_image` and `load_labels`.
        image_id: Index of the image.
        rng: Makes every random choice.

    Returns:
        (what `load_image` returns, what `load_labels` returns).
    """
    draw = getattr(dataset, "draw_sample", None)
    if draw is not None:
        return draw(image_id, rng)
    return dataset.load_image(image_id), dataset.load_labels(image_id)
