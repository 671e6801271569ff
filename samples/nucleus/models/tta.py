"""Test-time augmentation: a model looks at several views of one image, and what it says of them becomes one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np

from nucleus.models.views import View
from nucleus.models.voting import Found, merge_views

_Answer = TypeVar("_Answer")


def average_views(
    predict_probabilities: Callable[[np.ndarray], np.ndarray], image: np.ndarray, views: Sequence[View]
) -> np.ndarray:
    """Averages what a segmenter predicts for the pixels of an image, over views of it.

    Args:
        predict_probabilities: From uint8 `[h, w, 3]` to float32 `[h, w, C]` in 0..1.
        image: uint8 `[H, W, 3]`, as the model takes it: preprocessed.
        views: One or more. Those of one size use one compiled graph.

    Returns:
        float32 `[H, W, C]` in 0..1.

    Raises:
        ValueError: The model refuses a view; the message names it.
    """
    total = np.float32(0)
    for view in views:
        total = total + view.restore(_show(predict_probabilities, image, view), image.shape[:2])
    return total / np.float32(len(views))


def vote_of_views(
    find_instances: Callable[[np.ndarray], Found],
    image: np.ndarray,
    views: Sequence[View],
    least_share: float = 0.5,
    threshold: float = 0.5,
) -> Found:
    """Lets the instances that a model finds in views of an image vote; see `nucleus.models.voting.merge_views`.

    Args:
        find_instances: From uint8 `[h, w, 3]` to boxes int `[N, 4]` in pixels, the probabilities (or the mask) inside
            each, and scores `[N]`.
        image: uint8 `[H, W, 3]`, as the model takes it: preprocessed.
        views: One or more. Those of one size use one compiled graph.
        least_share: See `merge_views`.
        threshold: See `merge_views`.

    Returns:
        boxes int64 `[M, 4]`, M bool masks of their sizes, scores float32 `[M]`, descending.

    Raises:
        ValueError: The model refuses a view; the message names it.
    """

    return merge_views(instances_of_views(find_instances, image, views), least_share, threshold)


def instances_of_views(
    find_instances: Callable[[np.ndarray], Found], image: np.ndarray, views: Sequence[View]
) -> Iterator[Found]:
    """Finds instances in views of an image, one view after the other, and brings them back to the image.

    Args:
        find_instances: See `vote_of_views`.
        image: See `vote_of_views`.
        views: See `vote_of_views`.

    Yields:
        For each view what `nucleus.models.voting.merge_views` takes of it.

    Raises:
        ValueError: The model refuses a view; the message names it.
    """
    for view in views:
        boxes, crops, scores = _show(find_instances, image, view)
        yield *view.restore_instances(boxes, crops, image.shape[:2]), scores


def _show(model: Callable[[np.ndarray], _Answer], image: np.ndarray, view: View) -> _Answer:
    try:
        return model(view.apply(image))
    except ValueError as error:
        if view == View():
            raise  # What is refused is the image itself.
        raise ValueError(f"the view {view}: {error}") from error
