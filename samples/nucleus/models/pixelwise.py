"""Models that give every pixel a probability for each channel, from which post-processing makes nuclei."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.views import View
from unet.config import UNetConfig
from unet.postprocess import PostprocessSettings, postprocess

if TYPE_CHECKING:
    from nucleus.datasets.dataset import NucleusDataset
    from trainkit.search import TuningReport


class PixelNetwork(Protocol):
    """Network that computes the probabilities: `unet.model.UNet`, or `unet.onnx_model.OnnxUNet` without Keras."""

    def predict(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Returns float32 `[H, W, channels]` in 0..1 for each image `[H, W, 3]`."""


class PixelwiseModel(NucleusModel):
    """A model whose evidence is the channels' probabilities, which views and networks average before nuclei are made.

    Attributes:
        network: Network that computes the probabilities.
    """

    config: UNetConfig
    network: PixelNetwork
    tunable = True

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        return [self._finish(probabilities) for probabilities in self.network.predict(images)]

    def observe(self, images: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Returns the channels' probabilities, float32 `[H, W, channels]` in 0..1; see `NucleusModel.observe`."""
        return [[probabilities] for probabilities in self.network.predict(images)]

    def _tune(self, shown: NucleusModel, dataset: NucleusDataset, *how: Any) -> TuningReport:
        from nucleus.models.unet_tuning import search_postprocessing

        def probabilities(image: np.ndarray) -> np.ndarray:
            (evidence,) = shown.observe([shown.prepare(image)])
            return mean_probabilities(evidence)

        return search_postprocessing(probabilities, self.config, dataset, *how)

    def restore(self, evidence: np.ndarray, view: View, shape: tuple[int, int]) -> np.ndarray:
        """Brings probabilities from a view of an image back to the image; see `NucleusModel.restore`."""
        return view.restore(evidence, shape)

    def conclude(self, evidence: Sequence[np.ndarray], shape: tuple[int, int]) -> Prediction:
        """Averages probabilities, then finds the nuclei in them; see `NucleusModel.conclude`."""
        return self._finish(mean_probabilities(evidence))

    def _finish(self, probabilities: np.ndarray) -> Prediction:
        return Prediction(*postprocess(probabilities, PostprocessSettings.from_config(self.config)))


def mean_probabilities(evidence: Sequence[np.ndarray]) -> np.ndarray:
    """Averages the channels' probabilities of several views or networks.

    Args:
        evidence: Arrays float32 `[H, W, channels]` in 0..1.

    Returns:
        float32 `[H, W, channels]` in 0..1.
    """
    total = np.float32(0)
    for probabilities in evidence:
        total = total + probabilities
    return total / np.float32(len(evidence))
