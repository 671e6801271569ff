"""Fitted fusions: probabilities of pixels and of objects, the competition of objects for pixels, and the file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy import ndimage

from nucleus.ensemble.fusion.logistic import Logistic
from nucleus.ensemble.fusion.objects import (
    KINDS,
    OBJECT_FACTS,
    OBJECTS,
    PIXELS,
    Evidence,
    FusedObject,
    gather_objects,
    pixel_features,
)
from nucleus.images.labels import drop_small, relabel_sequential
from nucleus.models.base import Prediction
from trainkit.files import write_text
from trainkit.reading import read_json, reading
from unet.postprocess import fill_holes

_FORMAT = "nucleus fusion"
# To be incremented when the file format or the meaning of a feature changes.
_VERSION = 1
_DAMAGED = "not a fusion's file"
# Logarithm of the odds below which, on either side, a pixel is uncertain.
_UNCERTAIN = 1.0


@dataclass(frozen=True)
class FusionRules:
    """Rules by which objects are chosen, given their probability.

    Attributes:
        threshold: Minimum probability of an object that is kept.
        least_visible: Minimum fraction of an object that more probable ones leave uncovered.
        min_area: Area in pixels below which a nucleus is dropped.
    """

    threshold: float = 0.4
    least_visible: float = 0.5
    min_area: int = 30

    def __post_init__(self) -> None:
        for name in ("threshold", "least_visible"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"{name} must be a number in 0..1. Received: {value!r}")
        if isinstance(self.min_area, bool) or not isinstance(self.min_area, int) or self.min_area < 0:
            raise ValueError(f"min_area must be a whole number, 0 or more. Received: {self.min_area!r}")


@dataclass(frozen=True)
class Shaped:
    """Objects of an image with the probabilities of their pixels.

    Attributes:
        objects: The objects.
        logits: Logarithm of the odds that a pixel of an object's window belongs to it, float32 `[h, w]` each.
        features: float64 `[N, F]`, features of the objects; see `object_features`.
    """

    objects: Sequence[FusedObject]
    logits: Sequence[np.ndarray]
    features: np.ndarray


def object_features(channels: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of an object's features.

    Those of OBJECT_FACTS; whether one model alone found the object; of the fused mask the logarithm of its area, the
    mean probability of its pixels, the share of uncertain pixels in its window, and the mean logarithm of the odds of
    every channel.

    Args:
        channels: Names of the channels.
    """
    return (*OBJECT_FACTS, "objects_alone", "pixels_alone", "log_area", "confidence", "uncertain", *channels)


@dataclass(frozen=True)
class Fusion:
    """Fitted fusion of a model that finds objects with one that rates pixels.

    Attributes:
        channels: Names of the latter's channels.
        pixels: By kind of object, the probability that a pixel near an object belongs to it.
        objects: Probability that an object is a nucleus: its mask has an IoU above 0.5 with one.
        rules: Rules by which objects are chosen.
        about: Notes on the fit and its scores, JSON-compatible.
        weights: Source of each member, "objects" and "pixels"; see `nucleus.ensemble.sources`.
        settings: Settings that differ from the defaults and that the other attributes do not hold.
    """

    channels: tuple[str, ...]
    pixels: Mapping[str, Logistic]
    objects: Logistic
    rules: FusionRules = field(default_factory=FusionRules)
    about: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def fuse(self, evidence: Evidence) -> Prediction:
        """Makes one label image of what two models say of an image.

        Args:
            evidence: What the models say.

        Returns:
            The labels, and as scores the probability that each is a nucleus.

        Raises:
            ValueError: The channels are not those of the fit.
        """
        if evidence.channels != self.channels:
            raise ValueError(
                f"The fusion was fitted with the channels {', '.join(self.channels)}. Received: "
                f"{', '.join(evidence.channels)}"
            )
        shaped = shape_objects(gather_objects(evidence), self.pixels, self.channels)
        return compete(shaped, self.objects.probability(shaped.features), self.rules, evidence.shape)

    def to_json(self) -> str:
        """Returns the content of the fusion's file."""
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "channels": list(self.channels),
            "rules": asdict(self.rules),
            "about": dict(self.about),
            **({"weights": dict(self.weights)} if self.weights else {}),
            **({"settings": dict(self.settings)} if self.settings else {}),
            "pixels": {kind: model.to_json() for kind, model in self.pixels.items()},
            "objects": self.objects.to_json(),
        }
        return json.dumps(content, indent=1)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the fusion as JSON.

        Args:
            path: File to write.

        Raises:
            OSError: The file cannot be written.
        """
        write_text(path, self.to_json() + "\n")


def shape_objects(objects: Sequence[FusedObject], pixels: Mapping[str, Logistic], channels: Sequence[str]) -> Shaped:
    """Computes the probabilities of objects' pixels, and the objects' features.

    Args:
        objects: Objects of an image.
        pixels: Regression of a pixel's probability by kind of object.
        channels: Names of the channels.
    """
    logits = [pixels[each.kind].logit(each.features.astype(np.float32)).astype(np.float32) for each in objects]
    rows = [_describe(each, logit, len(channels)) for each, logit in zip(objects, logits, strict=True)]
    return Shaped(objects, logits, np.array(rows, np.float64).reshape(-1, len(object_features(channels))))


def compete(shaped: Shaped, probability: np.ndarray, rules: FusionRules, shape: tuple[int, int]) -> Prediction:
    """Chooses objects, the most probable first, and gives every pixel to the chosen one that it most likely belongs to.

    An object is dropped where more probable ones leave too little of it. Of a nucleus in several pieces the largest
    stays.

    Args:
        shaped: Objects of an image.
        probability: float `[N]`, the probability of each object.
        rules: Rules of the choice.
        shape: (height, width) of the image.

    Returns:
        The labels, and each one's probability as its score.
    """
    covered = np.zeros(shape, bool)
    labels, best = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
    for index in np.argsort(-probability, kind="stable").tolist():
        if probability[index] < rules.threshold:
            break
        region, logit = shaped.objects[index].region, shaped.logits[index]
        mask = logit > 0
        area = np.count_nonzero(mask)
        free = area - np.count_nonzero(mask & covered[region])
        if area < max(rules.min_area, 1) or free < max(rules.least_visible * area, 1):
            continue
        covered[region] |= mask
        won = logit > best[region]
        labels[region][won] = index + 1
        best[region][won] = logit[won]
    labels, chosen = relabel_sequential(labels)
    labels = fill_holes(_largest_pieces(labels))
    labels, large = drop_small(labels, rules.min_area)
    return Prediction(fill_holes(labels), probability[chosen][large].astype(np.float32))


def is_fusion(path: str | os.PathLike) -> bool:
    """Returns whether a JSON file is that of a fusion, judged by its format entry.

    Args:
        path: The JSON file.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == _FORMAT


def read_fusion(path: str | os.PathLike) -> Fusion:
    """Reads a fusion from a file that `Fusion.save` wrote.

    Args:
        path: The JSON file.

    Raises:
        ValueError: The file cannot be read, holds no fusion, is damaged, or needs features that this version does not
            compute.
    """
    content = read_json(path, _DAMAGED)
    with reading(path, _DAMAGED):
        return _parse(content)


def _parse(content: Mapping[str, Any]) -> Fusion:
    if content.get("format") != _FORMAT:
        raise ValueError(f'its "format" is not "{_FORMAT}"')
    if content["version"] != _VERSION:
        raise ValueError(f"version {content['version']!r}; this program reads {_VERSION}")
    channels = content["channels"]
    if not isinstance(channels, list) or not channels or not all(isinstance(name, str) for name in channels):
        raise ValueError('"channels" must be a list of names')
    notes = {name: content.get(name, {}) for name in ("about", "weights", "settings", "rules", "pixels")}
    if not all(isinstance(each, dict) for each in notes.values()):
        raise ValueError(f"{', '.join(notes)} must be objects")
    weights = notes["weights"]
    valid = all(isinstance(source, str) and source for source in weights.values())
    if weights and (set(weights) != {OBJECTS, PIXELS} or not valid):
        raise ValueError(f'"weights" must name a source for "{OBJECTS}" and "{PIXELS}"')
    return Fusion(
        tuple(channels),
        {kind: Logistic.from_json(notes["pixels"][kind], pixel_features(channels, kind)) for kind in KINDS},
        Logistic.from_json(content["objects"], object_features(channels)),
        FusionRules(**notes["rules"]),
        notes["about"],
        weights,
        notes["settings"],
    )


def _describe(fused: FusedObject, logit: np.ndarray, channels: int) -> list[float]:
    """Returns the features of an object in the order of `object_features`."""
    mask = logit > 0
    alone = [float(fused.kind == kind) for kind in (OBJECTS, PIXELS)]
    area = np.count_nonzero(mask)
    confidence, means = 0.0, np.zeros(channels)
    if area:
        confidence = float(np.mean(1 / (1 + np.exp(-logit[mask]))))
        means = fused.features[..., -channels:][mask].mean(axis=0, dtype=np.float64)
    uncertain = float(np.mean(np.abs(logit) < _UNCERTAIN))
    return [*fused.facts, *alone, np.log(area + 1), confidence, uncertain, *means]


def _largest_pieces(labels: np.ndarray) -> np.ndarray:
    """Keeps the largest 4-connected piece of every label, int32 `[H, W]`."""
    kept = np.zeros_like(labels)
    for number, region in enumerate(ndimage.find_objects(labels), start=1):
        mask = labels[region] == number
        count, pieces, statistics, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
        if count > 2:
            mask = pieces == 1 + np.argmax(statistics[1:, cv2.CC_STAT_AREA])
        kept[region][mask] = number
    return kept
