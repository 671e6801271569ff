"""Sums of scores over the parts of a test set that a publication reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from nucleus.datasets.dataset import NucleusDataset
from nucleus.evaluation.evaluation import overlaps_by_image
from nucleus.evaluation.scores import Scores, score
from nucleus.evaluation.scores.sums import Sums
from nucleus.experiments.publications.experiment import GROUPS
from nucleus.models.base import NucleusModel
from nucleus.models.pixelwise import mean_probabilities
from nucleus.prediction.predictions import Predictions

# Probabilities are clipped to this distance from 0 and 1, where the logarithm is infinite.
_EPSILON = 1e-7


@dataclass(frozen=True)
class CrossEntropy(Sums):
    """Binary cross-entropy of the foreground's probabilities in one image or, added up, in many.

    Attributes:
        images: Images added up.
        total: Sum over images of the mean over pixels, in nats.
    """

    images: int
    total: float

    @property
    def mean(self) -> float:
        """Mean over images, in nats."""
        return self.total / self.images


def sum_scores(
    predictions: Predictions,
    dataset: NucleusDataset,
    parts: Callable[[dict[str, Any]], Iterable[str]],
    unet: NucleusModel | None = None,
) -> dict[str, list[Sums]]:
    """Scores the predictions for every image of a data set, and adds the scores up by parts.

    Args:
        predictions: Predictions of every image.
        dataset: Prepared data set with masks, without preprocessing.
        parts: Function from an entry of `image_info` to the parts that the image is counted in.
        unet: U-Net whose first channel is the mask, of which the pixels' cross-entropy is measured too; None for none.

    Returns:
        Part -> `Scores`, and `CrossEntropy` where it is measured, of its images together.

    Raises:
        DatasetError: The data set has no image, or one without a prediction.
        ValueError: A prediction cannot be read or does not fit its image.
    """
    totals: dict[str, list[Sums]] = {}
    for index, (info, pair, _) in zip(dataset.image_ids, overlaps_by_image(predictions, dataset), strict=True):
        measured: list[Sums] = [score(pair)]
        if unet is not None:
            (evidence,) = unet.observe([unet.prepare(dataset.load_image(index))])
            measured.append(_cross_entropy(pair.truth > 0, mean_probabilities(evidence)[..., 0]))
        for part in parts(info):
            totals[part] = add(totals.get(part), measured)
    return totals


def add(known: list[Sums] | None, more: list[Sums]) -> list[Sums]:
    """Adds the sums of further images to those known of a part.

    Args:
        known: Sums of the images so far; None for no image yet.
        more: Sums of the further images, of the same scores in the same order.
    """
    return more if known is None else [a + b for a, b in zip(known, more, strict=True)]


def modality_parts(info: dict[str, Any]) -> list[str]:
    """Returns "", which stands for all images, and the names in GROUPS that an image's modality belongs to."""
    return ["", *(name for name, belongs in GROUPS.items() if belongs(info["modality"]))]


def values(measured: list[Sums]) -> dict[str, float]:
    """Names every score that was measured of a part: those of `Scores.values`, and BCE where it was."""
    scores = next(item for item in measured if isinstance(item, Scores))
    entropies = [("BCE", item.mean) for item in measured if isinstance(item, CrossEntropy)]
    return {**scores.values(), **dict(entropies)}


def _cross_entropy(truth: np.ndarray, probabilities: np.ndarray) -> CrossEntropy:
    of_truth = np.where(truth, probabilities, 1 - probabilities).astype(np.float64)
    return CrossEntropy(images=1, total=float(-np.log(np.clip(of_truth, _EPSILON, 1)).mean()))
