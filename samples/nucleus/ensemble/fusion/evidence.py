"""Evidence of two models for an image that both are shown at one scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from nucleus.ensemble.fusion.objects import Evidence
from nucleus.models.base import NucleusModel
from nucleus.models.pixelwise import PixelwiseModel, mean_probabilities
from nucleus.models.scale import AutoScale, FixedScale, Scaled
from nucleus.models.settings import SizeSettings
from nucleus.models.tiles import Tiles
from nucleus.models.voting import Found, merge_views
from nucleus.models.wrapper import Wrapper

# Typical diameters that two models know differ by less than this factor: both are shown an image at one scale.
_ALIKE = 1.2


class Witnesses:
    """Two models that look at the same image, each preprocessed in its own way.

    Their evidence meets at the scale of the one that rates pixels. The one that finds objects is shown an image larger
    or smaller by a fixed factor, if the nuclei that it knows are typically larger or smaller.

    Args:
        objects: Model whose evidence is boxes with masks, as `nucleus.load_model` returns it.
        pixels: Model that rates pixels, as `nucleus.load_model` returns it.

    Attributes:
        objects: The former, with its test-time augmentation, without scale and tiles.
        pixels: The latter, likewise.
        channels: Names of the channels of `pixels`.
        known: Least, typical and largest diameter in pixels of the nuclei that `pixels` knows; empty if it is unknown.

    Raises:
        ValueError: `pixels` does not rate pixels, or `objects` does.
    """

    def __init__(self, objects: NucleusModel, pixels: NucleusModel):
        for name, model, rates in (("objects", objects, False), ("pixels", pixels, True)):
            if isinstance(_innermost(model), PixelwiseModel) != rates:
                wanted = "rates pixels, such as a U-Net" if rates else "finds objects, such as a Mask R-CNN"
                raise ValueError(f"{name} needs a model that {wanted}. Received: {type(_innermost(model)).__name__}")
        self.objects, self.pixels = _unscaled(objects), _unscaled(pixels)
        self.channels: tuple[str, ...] = tuple(_innermost(pixels).config.channels)
        self.known = _known(self.pixels)
        self._factor = _relative_scale(_known(self.objects), self.known)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Preprocesses an image for both models.

        Args:
            image: uint8 `[H, W, 3]` RGB, as read.

        Returns:
            uint8 `[H, W, 9]`: RGB as the model that finds objects is shown it, as the other one is, and as read.
        """
        return np.concatenate([self.objects.prepare(image), self.pixels.prepare(image), image], axis=2)

    def preparation(self, sample: Callable[[], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        """Returns the preprocessing of regions for both models; see `NucleusModel.preparation`."""
        objects, pixels = (model.preparation(sample) for model in (self.objects, self.pixels))
        return lambda region: np.concatenate([objects(region), pixels(region), region], axis=2)

    def calibrate(self, shown: np.ndarray) -> Witnesses:
        """Returns both models calibrated for the tiles of an image; see `NucleusModel.calibrate`.

        Args:
            shown: The image as `prepare` returns it.
        """
        objects = self.objects.calibrate(np.ascontiguousarray(shown[..., :3]))
        return Witnesses(objects, self.pixels.calibrate(np.ascontiguousarray(shown[..., 3:6])))

    def testify(self, shown: np.ndarray) -> Evidence:
        """Returns the evidence for an image at the size at which it is given.

        Args:
            shown: uint8 `[H, W, 9]`, as `prepare` returns it.
        """
        shape = shown.shape[:2]
        objects = self.objects if self._factor == 1 else Scaled(self.objects, self._factor)
        (found,) = objects.observe([np.ascontiguousarray(shown[..., :3])])
        (rated,) = self.pixels.observe([np.ascontiguousarray(shown[..., 3:6])])
        probabilities = mean_probabilities(rated)
        nuclei = self.pixels.conclude([probabilities], shape)
        image = np.ascontiguousarray(shown[..., 6:])
        return Evidence(self._merge(found), self.channels, probabilities, nuclei, image)

    def _merge(self, found: Sequence[Found]) -> Found:
        """Returns the objects of one view, or those that several views agree on."""
        return found[0] if len(found) == 1 else merge_views(found, self.objects.config.TEST_TIME_VOTES)


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


def _known(model: NucleusModel) -> tuple[float, ...]:
    config = model.config
    return tuple(config.KNOWN_DIAMETERS) if isinstance(config, SizeSettings) else ()


def _relative_scale(objects: Sequence[float], pixels: Sequence[float]) -> float:
    """Returns the factor by which one model is shown images larger than another, by the diameters that they know."""
    if not objects or not pixels:
        return 1.0
    factor = round(objects[1] / pixels[1], 2)
    return 1.0 if max(factor, 1 / factor) < _ALIKE else factor
