"""Fitted fusions: probabilities of pixels and of objects, the competition for pixels, the choice, and the file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np
from scipy import ndimage

from nucleus.ensemble.fitted import Ensemble, FittedFile, parse_ensemble, read_fitted
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
from unet.postprocess import fill_holes

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
class Fusion(FittedFile):
    """Fitted fusion of a model that finds objects with one that rates pixels.

    Attributes:
        channels: Names of the latter's channels.
        pixels: By kind of object, the probability that a pixel near an object belongs to it.
        objects: Probability that an object is a nucleus: its mask has an IoU above 0.5 with one.
        ensemble: Choice among the fused objects, whose members are the kinds of objects.
        about, weights, settings: Attributes of `FittedFile`; the members are "objects" and "pixels".
    """

    format: ClassVar[str] = "nucleus fusion"

    channels: tuple[str, ...]
    pixels: Mapping[str, Logistic]
    objects: Logistic
    ensemble: Ensemble

    @property
    def choice(self) -> Ensemble:
        """Choice among the fused objects."""
        return self.ensemble

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

    def content(self) -> dict[str, Any]:
        """Returns the content of the fusion's file as JSON can hold it."""
        return {
            **self._head(),
            "channels": list(self.channels),
            **self._notes(),
            "pixels": {kind: model.to_json() for kind, model in self.pixels.items()},
            "objects": self.objects.to_json(),
            "ensemble": self.ensemble.content(),
        }


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


def read_fusion(path: str | os.PathLike) -> Fusion:
    """Reads a fusion from a file that `Fusion.save` wrote.

    Args:
        path: The JSON file.

    Raises:
        ValueError: The file cannot be read, holds no fusion, is damaged, or needs features that this version does not
            compute.
    """
    return read_fitted(path, "not a fusion's file", _parse)


def _parse(content: Mapping[str, Any]) -> Fusion:
    notes = Fusion._parse_notes(content, "pixels", "ensemble")
    Fusion._check_sources(notes["weights"], (OBJECTS, PIXELS))
    channels = content["channels"]
    if not isinstance(channels, list) or not channels or not all(isinstance(name, str) for name in channels):
        raise ValueError('"channels" must be a list of names')
    ensemble = parse_ensemble(content["ensemble"])
    if ensemble.members != KINDS:
        raise ValueError(f"its ensemble must choose among {', '.join(KINDS)}")
    return Fusion(
        tuple(channels),
        {kind: Logistic.from_json(content["pixels"][kind], pixel_features(channels, kind)) for kind in KINDS},
        Logistic.from_json(content["objects"], object_features(channels)),
        ensemble,
        **notes,
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
