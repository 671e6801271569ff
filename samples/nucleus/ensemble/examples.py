"""Examples that an ensemble is fitted to: images with ground truth and every member's prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from nucleus.datasets.dataset import NucleusDataset
from nucleus.ensemble.candidates import Candidates, gather, true_iou
from nucleus.ensemble.features import GROUPS, feature_table
from nucleus.models.base import Prediction
from nucleus.models.limits import warn_of_limits

# Finds the nuclei of an image, given its id and its pixels, uint8 [H, W, 3] RGB.
Finder = Callable[[str, np.ndarray], Prediction]


@dataclass(frozen=True)
class Example:
    """One image.

    Attributes:
        id: Name of the image in the data set.
        modality: Imaging modality of the image.
        candidates: The members' masks.
        features: float64 `[N, F]`, see `nucleus.ensemble.features`.
        iou: float64 `[N]`, of each mask with the nucleus that it fits best.
        truth: Integer `[H, W]`, the label image of the ground truth.
    """

    id: str
    modality: str
    candidates: Candidates
    features: np.ndarray
    iou: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(
        cls,
        id: str,
        modality: str,
        predictions: Mapping[str, Prediction],
        image: np.ndarray,
        truth: np.ndarray,
        groups: Iterable[str],
    ) -> Example:
        """Returns the example of an image.

        Args:
            id: Name of the image in the data set.
            modality: Imaging modality of the image.
            predictions: Nuclei that each member finds.
            image: uint8 `[H, W, 3]` RGB.
            truth: Integer `[H, W]`, the label image of the ground truth.
            groups: Groups of features.

        Raises:
            ValueError: A prediction does not fit the image.
        """
        candidates = gather(predictions)
        features, iou = feature_table(candidates, image, groups), true_iou(candidates, truth)
        labels = truth.astype(np.min_scalar_type(int(truth.max(initial=0))))
        return cls(id, modality, candidates, features, iou, labels)


def make_examples(
    dataset: NucleusDataset,
    members: Mapping[str, Finder],
    groups: Sequence[str] = tuple(GROUPS),
) -> list[Example]:
    """Collects the members' predictions for every image of a data set.

    The members must not have been trained on these images: what they do on those says nothing about what they do on
    others.

    Args:
        dataset: Prepared, with masks and without preprocessing.
        members: By name, what finds the nuclei of an image.
        groups: Groups of features.

    Returns:
        One example an image.

    Raises:
        ValueError: A prediction does not fit its image; the message names it.
    """
    examples = []
    for index in tqdm(dataset.image_ids, desc="members", unit="image"):
        info = dataset.image_info[index]
        image, (truth, _) = dataset.load_image(index), dataset.load_labels(index)
        try:
            with warn_of_limits(info["path"]):
                found = {name: find(info["id"], image) for name, find in members.items()}
            examples.append(Example.of(info["id"], info["modality"], found, image, truth, groups))
        except ValueError as error:
            raise ValueError(f"{info['path']}: {error}") from error
    return examples
