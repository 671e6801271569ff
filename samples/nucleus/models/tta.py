"""Wrappers that merge several predictions of an image: test-time augmentation, and several networks as one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.limits import limits_of
from nucleus.models.views import View, make_views
from nucleus.models.wrapper import Wrapper

# Most images, and pixels in them, whose evidence is in memory at a time.
_MOST_IMAGES, _MOST_PIXELS = 8, 2**20


class _Looks(Wrapper):
    """A model that merges several pieces of evidence of every image.

    Args:
        model: The model that preprocesses images and merges the evidence.
    """

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        predictions = []
        # A few images at a time: the evidence of many large images would fill the memory.
        for group in bounded([image.shape[0] * image.shape[1] for image in images], _MOST_IMAGES, _MOST_PIXELS):
            with limits_of(group):
                evidence = self.observe([images[index] for index in group])
            for index, found in zip(group, evidence, strict=True):
                predictions.append(self.conclude(found, images[index].shape[:2]))
        return predictions


class TestTimeAugmentation(_Looks):
    """Test-time augmentation: merges a model's evidence from flipped, turned and scaled views of every image.

    A U-Net's probabilities are averaged; of any other model the instances vote, see `nucleus.models.voting`.

    Args:
        model: Any nucleus model.
        views: Views of every image; by default those of the model's TEST_TIME_AUGMENTATION and TEST_TIME_SCALES.
    """

    def __init__(self, model: NucleusModel, views: Sequence[View] | None = None):
        super().__init__(model)
        self.views = tuple(model.config.make_views() if views is None else views)

    def calibrate(self, image: np.ndarray) -> NucleusModel:
        """Calibrates the wrapped model; see `NucleusModel.calibrate`."""
        return TestTimeAugmentation(self.model.calibrate(image), self.views)

    def observe(self, images: Sequence[np.ndarray]) -> list[list[Any]]:
        """Returns the evidence of all views, mapped back to the image; see `NucleusModel.observe`.

        Raises:
            ValueError: The model refuses a view; the message names it.
        """
        seen = [self._observe(images, view) for view in self.views]
        return [list(chain.from_iterable(evidence)) for evidence in zip(*seen, strict=True)]

    def describe(self) -> dict[str, Any]:
        """Adds the views; see `NucleusModel.describe`."""
        return {**super().describe(), "views": [str(view) for view in self.views]}

    def _observe(self, images: Sequence[np.ndarray], view: View) -> list[list[Any]]:
        """Returns the evidence of one view of every image."""
        try:
            found = self.model.observe([view.apply(image) for image in images])
        except ValueError as error:
            if view == View():
                raise  # The image itself is refused.
            raise ValueError(f"the view {view}: {error}") from error
        return [
            [self.restore(one, view, image.shape[:2]) for one in evidence]
            for image, evidence in zip(images, found, strict=True)
        ]


class Joint(_Looks):
    """Several networks of one kind as one, such as those of a cross-validation on images that none of them has seen.

    Averages the probabilities of U-Nets (Vuola, 2019, section 4.4.2); the instances of other models vote.

    Args:
        models: One or more models of one kind; the first one's settings apply.
    """

    def __init__(self, models: Sequence[NucleusModel]):
        super().__init__(models[0])
        self.models = tuple(models)

    def calibrate(self, image: np.ndarray) -> NucleusModel:
        """Calibrates all models; see `NucleusModel.calibrate`."""
        return Joint([model.calibrate(image) for model in self.models])

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        # A single model has nothing to average or to vote with.
        return self.model._predict(images) if len(self.models) == 1 else super()._predict(images)

    def observe(self, images: Sequence[np.ndarray]) -> list[list[Any]]:
        """Returns the evidence of all models; see `NucleusModel.observe`."""
        found = [model.observe(images) for model in self.models]
        return [list(chain.from_iterable(evidence)) for evidence in zip(*found, strict=True)]

    def describe(self) -> dict[str, Any]:
        """Describes all models; see `NucleusModel.describe`."""
        return {**super().describe(), "models": [model.describe() for model in self.models]}


def with_views(model: NucleusModel) -> NucleusModel:
    """Returns the model with the test-time augmentation of its settings; the model itself if that is off.

    Args:
        model: Any nucleus model.
    """
    views = model.config.make_views()
    return model if views == make_views() else TestTimeAugmentation(model, views)


def bounded(pixels: Sequence[int], images: int, limit: int) -> list[list[int]]:
    """Divides images into groups of consecutive ones.

    Args:
        pixels: Number of pixels of every image.
        images: Most images of a group, 1 or more.
        limit: Most pixels of a group; a larger image is a group by itself.

    Returns:
        Positions of the images of every group.

    Examples:
        >>> bounded([10, 10, 10, 500, 10], images=2, limit=100)
        [[0, 1], [2], [3], [4]]
    """
    groups: list[list[int]] = []
    held = 0
    for index, count in enumerate(pixels):
        if not groups or len(groups[-1]) == images or held + count > limit:
            groups.append([])
            held = 0
        groups[-1].append(index)
        held += count
    return groups
