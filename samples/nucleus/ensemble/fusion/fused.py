"""Fitted fusions: probabilities of pixels and of objects, the competition for pixels, the choice, and the file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from scipy import ndimage

from nucleus.ensemble.fitted import FINGERPRINTS, Ensemble, has_format, parse_ensemble
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
from nucleus.images.labels import relabel_sequential
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
        ensemble: Choice among the fused objects, whose members are the kinds of objects.
        about: Notes on the fit and its scores, JSON-compatible.
        weights: Source of each member, "objects" and "pixels"; see `nucleus.ensemble.sources`.
        settings: Settings that differ from the defaults and that the other attributes do not hold.
    """

    channels: tuple[str, ...]
    pixels: Mapping[str, Logistic]
    objects: Logistic
    ensemble: Ensemble
    about: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def fuse(self, evidence: Evidence) -> Prediction:
        """Makes one label image of what two models say of an image.

        Args:
            evidence: What the models say.

        Returns:
            The labels, and as scores the predicted IoU of each nucleus with the truth.

        Raises:
            ValueError: The channels are not those of the fit.
        """
        if evidence.channels != self.channels:
            raise ValueError(
                f"The fusion was fitted with the channels {', '.join(self.channels)}. Received: "
                f"{', '.join(evidence.channels)}"
            )
        shaped = shape_objects(gather_objects(evidence), self.pixels, self.channels)
        found = self.ensemble.combine(evidence.image, propose(shaped, self.objects, evidence.shape))
        return Prediction(found.labels, found.scores)

    def to_json(self) -> str:
        """Returns the content of the fusion's file."""
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "channels": list(self.channels),
            "about": dict(self.about),
            **({"weights": dict(self.weights)} if self.weights else {}),
            **({"settings": dict(self.settings)} if self.settings else {}),
            "pixels": {kind: model.to_json() for kind, model in self.pixels.items()},
            "objects": self.objects.to_json(),
            "ensemble": self.ensemble.content(),
        }
        return json.dumps(content)

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


def propose(shaped: Shaped, objects: Logistic, shape: tuple[int, int]) -> dict[str, Prediction]:
    """Gives every pixel to the object of each kind that it most likely belongs to, or to none.

    Objects of two kinds may overlap: they are different opinions, such as one nucleus or two. Of an object in several
    pieces the largest stays, without holes.

    Args:
        shaped: Objects of an image.
        objects: Probability that an object is a nucleus.
        shape: (height, width) of the image.

    Returns:
        By kind the labels, and each object's probability as its score.
    """
    probability = objects.probability(shaped.features)
    found = {}
    for kind in KINDS:
        labels, best = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        for index, (each, logit) in enumerate(zip(shaped.objects, shaped.logits, strict=True)):
            if each.kind == kind:
                won = logit > best[each.region]
                labels[each.region][won] = index + 1
                best[each.region][won] = logit[won]
        labels, chosen = relabel_sequential(labels)
        found[kind] = Prediction(fill_holes(_largest_pieces(labels)), probability[chosen].astype(np.float32))
    return found


def is_fusion(path: str | os.PathLike) -> bool:
    """Returns whether a JSON file is that of a fusion, judged by its format entry.

    Args:
        path: The JSON file.

    Raises:
        OSError: The file cannot be read.
    """
    return has_format(path, _FORMAT)


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
    notes = {name: content.get(name, {}) for name in ("about", "weights", "settings", "pixels", "ensemble")}
    if not all(isinstance(each, dict) for each in notes.values()):
        raise ValueError(f"{', '.join(notes)} must be objects")
    weights = notes["weights"]
    valid = all(isinstance(source, str) and source for source in weights.values())
    if weights and (set(weights) != {OBJECTS, PIXELS} or not valid):
        raise ValueError(f'"weights" must name a source for "{OBJECTS}" and "{PIXELS}"')
    if not isinstance(notes["about"].get(FINGERPRINTS, {}), dict):
        raise ValueError(f'"{FINGERPRINTS}" of "about" must be an object')
    ensemble = parse_ensemble(notes["ensemble"])
    if ensemble.members != KINDS:
        raise ValueError(f"its ensemble must choose among {', '.join(KINDS)}")
    return Fusion(
        tuple(channels),
        {kind: Logistic.from_json(notes["pixels"][kind], pixel_features(channels, kind)) for kind in KINDS},
        Logistic.from_json(content["objects"], object_features(channels)),
        ensemble,
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
