"""Fitting of a fusion, with a cross-validation of its gain."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from tqdm import tqdm

from nucleus.ensemble.fitting import NothingToLearnError, assign
from nucleus.ensemble.fusion.fused import Fusion, FusionRules, Shaped, compete, object_features, shape_objects
from nucleus.ensemble.fusion.logistic import Logistic, fit_logistic
from nucleus.ensemble.fusion.objects import KINDS, Evidence, FusedObject, gather_objects, pixel_features
from nucleus.evaluation.scores import average_precision

_log = logging.getLogger(__name__)

# Thresholds of an object's probability that are tried.
TRIED_THRESHOLDS = (0.2, 0.3, 0.4, 0.5, 0.6)
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
        objects: The members' objects.
        truth: Integer `[H, W]`, the label image of the ground truth.
        scores: Average precision of what each member finds alone, by "objects" and "pixels".
    """

    id: str
    modality: str
    channels: tuple[str, ...]
    objects: Sequence[FusedObject]
    truth: np.ndarray
    scores: Mapping[str, float]

    @classmethod
    def of(
        cls, id: str, modality: str, evidence: Evidence, truth: np.ndarray, scores: Mapping[str, float]
    ) -> FusionExample:
        """Returns the example of an image.

        Args:
            id: Name of the image in its data set.
            modality: Imaging modality of the image.
            evidence: What the members say of the image.
            truth: Integer `[H, W]`, the label image of the ground truth.
            scores: Average precision of what each member finds alone.
        """
        labels = truth.astype(np.min_scalar_type(int(truth.max(initial=0))))
        return cls(id, modality, evidence.channels, gather_objects(evidence), labels, dict(scores))


@dataclass(frozen=True)
class FusionFitSettings:
    """Settings of fitting a fusion.

    Attributes:
        rules: Rules for choosing objects.
        choose_threshold: True to replace the rules' threshold by that of TRIED_THRESHOLDS with the best mAP.
        seed: Seed of the choice of pixels.
    """

    rules: FusionRules = field(default_factory=FusionRules)
    choose_threshold: bool = True
    seed: int = 0


@dataclass(frozen=True)
class FittedFusion:
    """A fitted fusion with its out-of-fold scores.

    Attributes:
        fusion: Fusion fitted to all images.
        folds: Number of each image's fold, from 0 on.
        thresholds: Threshold of each fold, chosen on the others.
        scores: Average precision of each image out of fold.
    """

    fusion: Fusion
    folds: list[int]
    thresholds: list[float]
    scores: list[float]


def fit(
    examples: Sequence[FusionExample],
    folds: Sequence[Sequence[str]],
    settings: FusionFitSettings | None = None,
    progress: bool = True,
) -> FittedFusion:
    """Fits a fusion to all images, and one to the other folds of each fold for cross-validation.

    Every nucleus weighs the same: the weight of a pixel is one over the area of its nucleus. Objects of a kind that is
    never near a nucleus are never kept; a warning names the kind.

    Args:
        examples: Images with known nuclei.
        folds: Image ids of each fold, two at least. Other ids are ignored.
        settings: Settings of fitting; by default `FusionFitSettings()`.
        progress: True to show a progress bar.

    Returns:
        The `FittedFusion`.

    Raises:
        NothingToLearnError: In the images of some folds no object is near a nucleus.
        ValueError: The folds do not divide the images, or the examples have different channels.
    """
    settings = settings or FusionFitSettings()
    fold_of = assign(examples, folds)
    if len(folds) < 2:
        raise ValueError(f"Expected two folds at least. Received: {len(folds)}")
    if len({example.channels for example in examples}) > 1:
        raise ValueError("the models that rate pixels must have the same channels in all folds")
    samples = [_pixel_samples(example, settings.seed) for example in examples]
    for kind in KINDS:
        if not any(image[kind] for image in samples):
            _log.warning("No object of the kind %r is near a nucleus: such objects will be dropped.", kind)
    scores, thresholds = [0.0] * len(examples), []
    with tqdm(total=len(folds) + 1, desc="fit", unit="fit", disable=not progress) as bar:
        for fold in range(len(folds)):
            held_out = [index for index, other in enumerate(fold_of) if other == fold]
            rest = sorted(set(range(len(examples))) - set(held_out))
            fusion = _fit([examples[index] for index in rest], [samples[index] for index in rest], settings)
            for index in held_out:
                scores[index] = _score(examples[index], *_apply(examples[index], fusion), fusion.rules)
            thresholds.append(fusion.rules.threshold)
            bar.update()
        fusion = _fit(examples, samples, settings)
        bar.update()
    about = {"images": len(examples), "folds": len(folds), "seed": settings.seed}
    return FittedFusion(replace(fusion, about=about), fold_of, thresholds, scores)


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


def _fit(
    examples: Sequence[FusionExample], samples: Sequence[Mapping[str, list[_Pixels]]], settings: FusionFitSettings
) -> Fusion:
    channels = examples[0].channels
    if not any(any(image.values()) for image in samples):
        raise NothingToLearnError("In the images of some folds no object of either model is near a nucleus.")
    pixels = {kind: _fit_pixels(kind, channels, samples) for kind in KINDS}
    shaped = [shape_objects(example.objects, pixels, channels) for example in examples]
    targets = [_are_nuclei(example, each) for example, each in zip(examples, shaped, strict=True)]
    features = np.concatenate([each.features for each in shaped])
    objects = fit_logistic(object_features(channels), features, np.concatenate(targets))
    rules = settings.rules
    if settings.choose_threshold:
        probabilities = [objects.probability(each.features) for each in shaped]
        means = []
        for threshold in TRIED_THRESHOLDS:
            tried = replace(rules, threshold=threshold)
            means.append(np.mean([_score(*each, tried) for each in zip(examples, shaped, probabilities, strict=True)]))
        rules = replace(rules, threshold=TRIED_THRESHOLDS[int(np.argmax(means))])
    return Fusion(channels, pixels, objects, rules)


def _fit_pixels(kind: str, channels: Sequence[str], samples: Iterable[Mapping[str, list[_Pixels]]]) -> Logistic:
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


def _apply(example: FusionExample, fusion: Fusion) -> tuple[Shaped, np.ndarray]:
    shaped = shape_objects(example.objects, fusion.pixels, fusion.channels)
    return shaped, fusion.objects.probability(shaped.features)


def _score(example: FusionExample, shaped: Shaped, probability: np.ndarray, rules: FusionRules) -> float:
    labels, _ = compete(shaped, probability, rules, example.truth.shape)
    return float(average_precision(example.truth, labels))
