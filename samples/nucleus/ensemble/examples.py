"""Examples that an ensemble is fitted to: images with ground truth and every member's prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.ensemble.candidates import Candidates, gather, true_iou
from nucleus.ensemble.features import GROUPS, describe_masks, feature_names
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


def make_examples(
    dataset: NucleusDataset,
    members: Mapping[str, Finder],
    groups: Sequence[str] = tuple(GROUPS),
    progress: bool = True,
) -> list[Example]:
    """Collects the members' predictions for every image of a data set.

    The members must not have been trained on these images: what they do on those says nothing about what they do on
    others.

    Args:
        dataset: Prepared, with masks and without preprocessing.
        members: By name, what finds the nuclei of an image.
        groups: Groups of features.
        progress: True to show a progress bar.

    Returns:
        One example an image.

    Raises:
        DatasetError: The data set has no image or preprocesses them.
        ValueError: A prediction does not fit its image; the message names it.
    """
    if dataset.preprocessing is not None:
        raise DatasetError("Members preprocess images themselves: fit on a dataset without preprocessing.")
    if len(dataset.image_ids) == 0:
        raise DatasetError("There is no image to fit an ensemble to.")
    names = feature_names(groups, list(members))
    examples = []
    for index in tqdm(dataset.image_ids, desc="members", unit="image", disable=not progress):
        info = dataset.image_info[index]
        image, (truth, _) = dataset.load_image(index), dataset.load_labels(index)
        try:
            with warn_of_limits(info["path"]):
                candidates = gather({name: find(info["id"], image) for name, find in members.items()})
            columns = describe_masks(candidates, image)
            iou = true_iou(candidates, truth)
        except ValueError as error:
            raise ValueError(f"{info['path']}: {error}") from error
        examples.append(
            Example(
                id=info["id"],
                modality=info["modality"],
                candidates=candidates,
                features=np.stack([columns[name] for name in names], axis=1),
                iou=iou,
                truth=truth.astype(np.min_scalar_type(int(truth.max(initial=0)))),
            )
        )
    return examples
