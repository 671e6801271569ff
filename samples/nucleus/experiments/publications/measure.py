"""Measurement of the scores that a publication reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from nucleus.datasets.dataset import NucleusDataset
from nucleus.evaluation.scores import Scores, overlaps, score
from nucleus.evaluation.scores.sums import Sums
from nucleus.experiments.publications.experiment import GROUPS
from nucleus.models.base import NucleusModel
from nucleus.models.unet import mean_probabilities
from nucleus.prediction.predictions import ModelPredictions

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


def measure(
    model: NucleusModel,
    dataset: NucleusDataset,
    parts: Callable[[dict[str, Any]], Iterable[str]],
    entropy: bool = False,
) -> dict[str, list[Sums]]:
    """Scores a model on every image of a data set.

    Args:
        model: A nucleus model.
        dataset: Prepared data set with masks, without preprocessing.
        parts: Function from an entry of `image_info` to the parts that the image is counted in.
        entropy: True to also measure the pixels' cross-entropy, for a U-Net whose first channel is the mask.

    Returns:
        Part -> `Scores`, and `CrossEntropy` where it is measured, of its images together.
    """
    totals: dict[str, list[Sums]] = {}
    indices = [int(index) for index in dataset.image_ids]
    predictions = ModelPredictions(model).read_each(dataset, indices)
    for index in tqdm(indices, desc="measure", unit="image"):
        truth, _ = dataset.load_labels(index)
        measured: list[Sums] = [score(overlaps(truth, next(predictions).labels))]
        if entropy:
            (evidence,) = model.observe([model.prepare(dataset.load_image(index))])
            measured.append(_cross_entropy(truth > 0, mean_probabilities(evidence)[..., 0]))
        for part in parts(dataset.image_info[index]):
            totals[part] = add(totals.get(part), measured)
    return totals


def add(known: list[Sums] | None, more: list[Sums]) -> list[Sums]:
    """Adds the sums of further images to those known of a part; None stands for no sums yet."""
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
