"""Fitting of a fusion: the regressions of pixels and objects, then the ensemble that chooses among fused objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nucleus.ensemble import fitting
from nucleus.ensemble.examples import Example
from nucleus.ensemble.fitting import FitSettings, NothingToLearnError
from nucleus.ensemble.fusion.fused import Fusion, Shaped, object_features, propose, shape_objects
from nucleus.ensemble.fusion.logistic import Logistic, fit_logistic
from nucleus.ensemble.fusion.objects import KINDS, Evidence, FusedObject, gather_objects, pixel_features
from nucleus.ensemble.validation import CrossValidation

# IoU above which an object is a nucleus, and from which its pixels are learned from.
_FOUND_IOU, _LEARNED_IOU = 0.5, 0.4
# Pixels are learned from within this distance of an outline, and at most so many of an object.
_NEAR, _MOST_PIXELS = 4.0, 100
# Logarithm of the odds of pixels of a kind of object that was never a nucleus in a fit.
_NEVER = -10.0


@dataclass(frozen=True)
class FusionExample:
    """One image.

    Attributes:
        id: Name of the image in its data set.
        modality: Imaging modality of the image.
        channels: Names of the channels.
        image: uint8 `[H, W, 3]` RGB, as read, at the size of the label image.
        objects: The members' objects.
        truth: Integer `[H, W]`, the label image of the ground truth.
    """

    id: str
    modality: str
    channels: tuple[str, ...]
    image: np.ndarray
    objects: Sequence[FusedObject]
    truth: np.ndarray

    @classmethod
    def of(cls, id: str, modality: str, evidence: Evidence, truth: np.ndarray) -> FusionExample:
        """Returns the example of an image.

        Args:
            id: Name of the image in its data set.
            modality: Imaging modality of the image.
            evidence: What the members say of the image.
            truth: Integer `[H, W]`, the label image of the ground truth.
        """
        labels = truth.astype(np.min_scalar_type(int(truth.max(initial=0))))
        return cls(id, modality, evidence.channels, evidence.image, gather_objects(evidence), labels)


def fit(
    examples: Sequence[FusionExample], folds: Sequence[Sequence[str]], settings: FitSettings
) -> tuple[Fusion, CrossValidation]:
    """Fits a fusion to all images, and cross-validates its choice of objects.

    Every nucleus weighs the same in the regressions of pixels: the weight of a pixel is one over the area of its
    nucleus. The regressions, of a few dozen numbers, are fitted to all images; the trees and the threshold of an image
    out of fold are those of the other folds, as in `nucleus.ensemble.fitting.fit_ensemble`.

    Args:
        examples: Images with known nuclei.
        folds: Image ids of each fold, three at least, or two with a given threshold. Other ids are ignored.
        settings: Settings of fitting the trees; the seed chooses pixels, too.

    Returns:
        The fusion, and what it finds in every image out of fold.

    Raises:
        NothingToLearnError: No object of either model is near a nucleus, or none is found in some folds.
        ValueError: The folds do not divide the images, the examples have different channels, or LightGBM is missing.
    """
    channels = examples[0].channels
    if any(example.channels != channels for example in examples):
        raise ValueError("the models that rate pixels must have the same channels in all folds")
    samples = [_pixel_samples(example, settings.seed) for example in examples]
    if not any(any(image.values()) for image in samples):
        raise NothingToLearnError("In none of the images is an object of either model near a nucleus.")
    pixels = {kind: _fit_pixels(kind, channels, samples) for kind in KINDS}
    shaped = [shape_objects(example.objects, pixels, channels) for example in examples]
    targets = [_are_nuclei(example, each) for example, each in zip(examples, shaped, strict=True)]
    features = np.concatenate([each.features for each in shaped])
    objects = fit_logistic(object_features(channels), features, np.concatenate(targets))
    pairs = zip(examples, shaped, strict=True)
    candidates = [_candidates(example, each, objects, settings.groups) for example, each in pairs]
    fitted = fitting.fit_ensemble(candidates, folds, settings)
    return Fusion(channels, pixels, objects, fitted.ensemble), CrossValidation(candidates, fitted)


def best_overlap(mask: np.ndarray, truth: np.ndarray, areas: np.ndarray) -> tuple[int, float]:
    """Returns the nucleus with the largest share of a mask, and the IoU of both.

    Args:
        mask: bool `[h, w]`.
        truth: Integer `[h, w]`, the same window of a label image.
        areas: int `[N + 1]`, pixels of every label in the whole image.

    Returns:
        (label, IoU); (0, 0.0) where the mask meets no nucleus.
    """
    counts = np.bincount(truth[mask], minlength=1)
    counts[0] = 0
    label = int(np.argmax(counts))
    if not counts[label]:
        return 0, 0.0
    return label, float(counts[label] / (areas[label] + np.count_nonzero(mask) - counts[label]))


# Features [N, F], whether each pixel belongs to its object, and weights.
_Pixels = tuple[np.ndarray, np.ndarray, np.ndarray]


def _pixel_samples(example: FusionExample, seed: int) -> dict[str, list[_Pixels]]:
    """Returns pixels near the outlines of an image's objects, by kind of object."""
    rng, areas = np.random.default_rng(seed), np.bincount(example.truth.ravel())
    found: dict[str, list[_Pixels]] = {kind: [] for kind in KINDS}
    for each in example.objects:
        truth = example.truth[each.region]
        label, iou = best_overlap(each.inside(), truth, areas)
        near = np.flatnonzero(each.near(_NEAR))
        if iou < _LEARNED_IOU or not len(near):
            continue
        chosen = rng.choice(near, min(_MOST_PIXELS, len(near)), replace=False)
        features = each.features.reshape(-1, each.features.shape[-1])[chosen]
        weights = np.full(len(chosen), len(near) / len(chosen) / areas[label])
        found[each.kind].append((features, truth.ravel()[chosen] == label, weights))
    return found


def _fit_pixels(kind: str, channels: Sequence[str], samples: Iterable[Mapping[str, list[_Pixels]]]) -> Logistic:
    """Fits the regression of one kind; objects of a kind that is never near a nucleus get no pixel."""
    names, every = pixel_features(channels, kind), [one for image in samples for one in image[kind]]
    if not every:
        return Logistic(names, np.zeros(len(names)), _NEVER)
    features, targets, weights = (np.concatenate(column) for column in zip(*every, strict=True))
    # On average a pixel weighs one, so that the penalty does not depend on the size of nuclei.
    weights = weights / weights.mean()
    return fit_logistic(names, features, targets.astype(np.float64), weights)


def _are_nuclei(example: FusionExample, shaped: Shaped) -> np.ndarray:
    """Returns for each object 1 where its fused mask has an IoU above _FOUND_IOU with a nucleus, else 0."""
    areas = np.bincount(example.truth.ravel())
    pairs = zip(shaped.objects, shaped.logits, strict=True)
    found = [best_overlap(logit > 0, example.truth[each.region], areas)[1] > _FOUND_IOU for each, logit in pairs]
    return np.array(found, np.float64)


def _candidates(example: FusionExample, shaped: Shaped, objects: Logistic, groups: Sequence[str]) -> Example:
    """Returns the fused objects of an image as an example of the ensemble that chooses among them."""
    found = propose(shaped, objects, example.truth.shape)
    return Example.of(example.id, example.modality, found, example.image, example.truth, groups)
