"""Several trained networks of one kind as one: what cross-validation leaves, on images that none of them has seen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from nucleus.models.inference import MaskRCNNPredictor, Predictor, UNetPredictor, merge_and_paint
from unet.postprocess import PostprocessSettings, postprocess


class JointUNets:
    """U-Nets whose probabilities are averaged (Vuola, 2019, section 4.4.2).

    Args:
        predictors: One or more, with the same channels; the first one's settings make nuclei of them.
    """

    def __init__(self, predictors: Sequence[UNetPredictor]):
        self._predictors = predictors
        self._settings = PostprocessSettings.from_config(predictors[0].config)

    def predict_labels(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds nuclei; see `nucleus.models.inference.predict`."""
        return postprocess(self.predict_probabilities(image), self._settings)

    def predict_probabilities(self, image: np.ndarray) -> np.ndarray:
        """Returns the mean of the channels, float32 `[H, W, channels]` in 0..1."""
        return np.mean([predictor.predict_probabilities(image) for predictor in self._predictors], axis=0)


class JointMaskRCNNs:
    """Mask R-CNNs whose instances vote, as those of views of an image do: see `nucleus.models.voting.merge_views`.

    Args:
        predictors: One or more; the first one's settings say how many must agree, and what becomes of overlaps.
    """

    def __init__(self, predictors: Sequence[MaskRCNNPredictor]):
        self._predictors = predictors

    def predict_labels(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds nuclei; see `nucleus.models.inference.predict`."""
        found = chain.from_iterable(predictor.find_in_views(image) for predictor in self._predictors)
        return merge_and_paint(found, image.shape[:2], self._predictors[0].config)


def joint(predictors: Sequence[Predictor]) -> Predictor:
    """Returns a predictor that asks several.

    Args:
        predictors: One or more of one kind.
    """
    if len(predictors) == 1:
        return predictors[0]
    if isinstance(predictors[0], MaskRCNNPredictor):
        return JointMaskRCNNs(predictors)
    return JointUNets(predictors)
