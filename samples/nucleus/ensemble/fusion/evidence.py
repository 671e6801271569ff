"""Evidence of two models for an image, brought to one scale, whole or in tiles."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nucleus.ensemble.fusion.objects import Evidence
from nucleus.models.base import NucleusModel, Prediction, Wrapper
from nucleus.models.limits import report_limit, unknown_size, watch_limits
from nucleus.models.pixelwise import PixelwiseModel, mean_probabilities
from nucleus.models.scale import AutoScale, FixedScale, Scaled, at_factor, find_factor
from nucleus.models.tiles import Tiles
from nucleus.models.voting import Found, merge_views


class Witnesses:
    """Two models that look at the same image, each as it was trained: preprocessed and scaled in its own way.

    Their evidence meets at the scale at which the one that rates pixels is shown the image.

    Args:
        objects: Model whose evidence is boxes with masks, as `nucleus.load_model` returns it.
        pixels: Model that rates pixels, as `nucleus.load_model` returns it.

    Attributes:
        channels: Names of the channels of `pixels`.

    Raises:
        ValueError: `pixels` does not rate pixels, or `objects` does.
    """

    def __init__(self, objects: NucleusModel, pixels: NucleusModel):
        for name, model, rates in (("objects", objects, False), ("pixels", pixels, True)):
            if isinstance(_innermost(model), PixelwiseModel) != rates:
                wanted = "rates pixels, such as a U-Net" if rates else "finds objects, such as a Mask R-CNN"
                raise ValueError(f"{name} needs a model that {wanted}. Received: {type(_innermost(model)).__name__}")
        self.objects, self.pixels = _unscaled(objects), _unscaled(pixels)
        self._factors = [_fixed_factor(model) for model in (objects, pixels)]
        self.channels: tuple[str, ...] = tuple(_innermost(pixels).config.channels)

    def predict(self, image: np.ndarray, fuse: Callable[[Evidence], Prediction]) -> Prediction:
        """Finds the nuclei of an image.

        A large image is divided into tiles by the settings of the model that rates pixels.

        Args:
            image: uint8 `[H, W, 3]` RGB, as read.
            fuse: Function from evidence to nuclei.

        Returns:
            The nuclei in pixels of the image, with the scale at which the model that rates pixels was shown it.
        """
        shown = self._prepare(image)
        evidence, objects, pixels, diameter = self._look(shown)
        if evidence is None:
            tiled = at_factor(_Fuser(self, objects / pixels, fuse), pixels)
            (prediction,) = tiled._predict([shown])
        else:
            prediction = fuse(evidence)
        return prediction.at_scale(pixels, diameter)

    def observe(self, image: np.ndarray) -> Evidence:
        """Returns the evidence for an image, in pixels of the scale at which the model that rates pixels is shown it.

        Args:
            image: uint8 `[H, W, 3]` RGB, as read.
        """
        shown = self._prepare(image)
        evidence, objects, pixels, _ = self._look(shown)
        if evidence is not None:
            return evidence
        scaled = shown if pixels == 1 else Scaled(self.pixels, pixels)._show(shown)
        return self.testify(scaled, objects / pixels)

    def testify(self, shown: np.ndarray, factor: float = 1.0) -> Evidence:
        """Returns the evidence for an image, as it is and as both models preprocess it.

        Args:
            shown: uint8 `[H, W, 9]`: RGB as the model that finds objects is shown it, as the other one is, and as read.
            factor: Factor of height and width at which the former is shown it.
        """
        shape = shown.shape[:2]
        objects = self.objects if factor == 1 else Scaled(self.objects, factor)
        (found,) = objects.observe([np.ascontiguousarray(shown[..., :3])])
        (rated,) = self.pixels.observe([np.ascontiguousarray(shown[..., 3:6])])
        probabilities = mean_probabilities(rated)
        nuclei = self.pixels.conclude([probabilities], shape)
        image = np.ascontiguousarray(shown[..., 6:])
        return Evidence(self._merge(found), self.channels, probabilities, nuclei, image)

    def _merge(self, found: Sequence[Found]) -> Found:
        """Returns the objects of one view, or those that several views agree on."""
        return found[0] if len(found) == 1 else merge_views(found, self.objects.config.TEST_TIME_VOTES)

    def _prepare(self, image: np.ndarray) -> np.ndarray:
        return np.concatenate([self.objects.prepare(image), self.pixels.prepare(image), image], axis=2)

    def _look(self, shown: np.ndarray) -> tuple[Evidence | None, float, float, float | None]:
        """Looks at an image at its own size.

        Returns:
            (evidence, the factors of both models, the diameter of nuclei). The evidence is None where the image is to
            be shown in tiles or at another scale.
        """
        evidence, reached = None, []
        if self._fits(shown):
            with watch_limits() as reached:
                evidence = self.testify(shown)
        first = (None, None) if evidence is None else (evidence.objects_alone(), evidence.nuclei)
        objects, _ = _find_factor(self.objects, self._factors[0], shown[..., :3], first[0])
        pixels, diameter = _find_factor(self.pixels, self._factors[1], shown[..., 3:6], first[1])
        unknown = unknown_size(self.pixels.config.KNOWN_DIAMETERS, diameter, pixels)
        if unknown is not None:
            report_limit(unknown)
        as_it_is = objects == pixels == 1 and not reached
        return evidence if as_it_is else None, objects, pixels, diameter

    def _fits(self, shown: np.ndarray) -> bool:
        side = self.pixels.config.TILE_SIZE
        return not side or shown.shape[0] * shown.shape[1] <= 2 * side**2


class _Fuser(Wrapper):
    """A model of preprocessed images, so that they can be shown to both members in tiles and at a scale.

    Args:
        witnesses: The members.
        factor: Factor at which the model that finds objects is shown what this one is shown.
        fuse: Function from evidence to nuclei.
    """

    def __init__(self, witnesses: Witnesses, factor: float, fuse: Callable[[Evidence], Prediction]):
        super().__init__(witnesses.pixels)
        self._witnesses, self._factor, self._fuse = witnesses, factor, fuse

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        return [self._fuse(self._witnesses.testify(image, self._factor)) for image in images]


def _find_factor(
    model: NucleusModel, fixed: float | None, shown: np.ndarray, first: Prediction | None
) -> tuple[float, float | None]:
    """Returns the factor at which a model is shown an image, and the diameter from which it was found, if it was."""
    if fixed is not None:
        return fixed, None
    return find_factor(model, np.ascontiguousarray(shown), model.config.KNOWN_DIAMETERS, first)


def _innermost(model: NucleusModel) -> NucleusModel:
    """Returns the model inside all wrappers."""
    while isinstance(model, Wrapper):
        model = model.model
    return model


def _unscaled(model: NucleusModel) -> NucleusModel:
    """Returns a model, with its test-time augmentation, without scale and tiles."""
    while isinstance(model, AutoScale | FixedScale | Tiles):
        model = model.model
    return model


def _fixed_factor(model: NucleusModel) -> float | None:
    """Returns the factor at which a model is shown every image; None where it finds one for each."""
    if isinstance(model, AutoScale):
        return None
    return model.factor if isinstance(model, FixedScale) else 1.0
