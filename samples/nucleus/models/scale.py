"""Wrappers that bring images to the scale that a model knows, and the labels back to the image's own pixels.

A network knows nuclei of the sizes that it learned (the setting KNOWN_DIAMETERS). `Scaled` shows it an image by a given
factor. `AutoScale` finds the factor, in passes over the image:

1. The model looks at the image at its own size: at all of it, or at four windows of a large one. The diameter of its
   nuclei is that of the nucleus in which the middle pixel of all nuclei lies, when they are sorted by area: specks,
   into which a network cuts nuclei that are too large for it, weigh little. A diameter within KNOWN_DIAMETERS ends the
   search, and the image keeps its size: most images take one pass.
2. Otherwise the image is brought to the factor at which that diameter becomes the middle one of KNOWN_DIAMETERS, and is
   looked at again, up to twice: nuclei of a few pixels are first seen too large, since the smallest are not seen.
3. If nothing is found, the image is looked at enlarged and reduced. If nothing is found again, it keeps its size.

The two passes are an idea of Cellpose's (Stringer et al. 2021, "size model"), with the model itself in place of a
second network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import cv2
import numpy as np

from nucleus.images.labels import bounding_boxes, paint
from nucleus.models.base import NucleusModel, Prediction
from nucleus.models.limits import Limit, UnknownSize, limits_of, report_limit, watch_limits
from nucleus.models.settings import SizeSettings
from nucleus.models.tiles import Tiles
from nucleus.models.tta import with_views
from nucleus.models.views import View, resize
from nucleus.models.wrapper import Wrapper

# Factors beyond which an image is neither reduced nor enlarged.
LEAST_FACTOR, LARGEST_FACTOR = 1 / 16, 5.0
# Passes after the first, at most.
_PASSES = 2
# Factors at which an image is looked at in which nothing is found at its own size.
_FALLBACKS = (2.5, 0.4)
# Fewer nuclei than this in an enlarged or reduced image are taken for specks of an image without nuclei.
_LEAST_NUCLEI = 3
# Side in pixels, as the model sees them, and number of the windows in which a large image is looked at.
_WINDOW, _WINDOWS = 512, 4
# Change of the factor, up or down, that another pass is not worth.
_CLOSE = 1.15


class Scaled(Wrapper):
    """A model that is shown every image enlarged or reduced by one factor.

    Args:
        model: Any nucleus model.
        factor: Factor of height and width, above 0.

    Examples:
        >>> from nucleus.models.classical.model import ClassicalModel
        >>> image = np.zeros((90, 120), np.uint8)
        >>> image[30:60, 30:60] = 200
        >>> labels, scores = Scaled(ClassicalModel(), 0.5).predict(image)[0]
        >>> labels.shape, int(labels.max())
        ((90, 120), 1)
    """

    def __init__(self, model: NucleusModel, factor: float):
        super().__init__(model)
        self.view = View(scale=factor)

    def describe(self) -> dict[str, Any]:
        """Adds the factor; see `NucleusModel.describe`."""
        return {**super().describe(), "factor": self.view.scale}

    def _show(self, image: np.ndarray) -> np.ndarray:
        """Returns the scaled image; enlarged by cubic interpolation, which blurs less than the linear one of views."""
        if self.view.scale <= 1:
            return self.view.apply(image)
        return resize(image, self.view.scaled(image.shape[:2]), cv2.INTER_CUBIC)

    def calibrate(self, image: np.ndarray) -> NucleusModel:
        """Calibrates the wrapped model on the scaled image; see `NucleusModel.calibrate`."""
        return Scaled(self.model.calibrate(self._show(image)), self.view.scale)

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        predictions = self.model._predict([self._show(image) for image in images])
        return [
            restore_labels(prediction, self.view, image.shape[:2])
            for prediction, image in zip(predictions, images, strict=True)
        ]

    def observe(self, images: Sequence[np.ndarray]) -> list[list[Any]]:
        """Returns the evidence in the scaled images, mapped back to the images; see `NucleusModel.observe`."""
        observed = self.model.observe([self._show(image) for image in images])
        return [
            [self.model.restore(one, self.view, image.shape[:2]) for one in evidence]
            for evidence, image in zip(observed, images, strict=True)
        ]


class AutoScale(Wrapper):
    """A model that brings every image to the scale it knows; see the module's docstring for how the scale is found.

    Args:
        model: Any nucleus model, with its test-time augmentation and without tiles. Its KNOWN_DIAMETERS and TILE_SIZE
            apply; without the first, images keep their size.
    """

    def __init__(self, model: NucleusModel):
        super().__init__(model)
        self._at_own_size = at_factor(model, 1.0)

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        known, side = self.config.KNOWN_DIAMETERS, self.config.TILE_SIZE
        whole = [i for i, image in enumerate(images) if not side or image.shape[0] * image.shape[1] <= 2 * side**2]
        seen: dict[int, Prediction] = {}
        reached: list[Limit | UnknownSize] = []
        if whole:
            with watch_limits() as reached:
                seen = dict(zip(whole, self._at_own_size._predict([images[i] for i in whole]), strict=True))
        predictions = []
        for index, image in enumerate(images):
            prediction = seen.get(index)
            with limits_of([index]):
                factor, diameter = find_factor(self.model, image, known, prediction)
                if prediction is None or factor != 1:
                    shown = self._at_own_size if factor == 1 else at_factor(self.model, factor)
                    (prediction,) = shown._predict([image])
                predictions.append(_note(prediction, factor, diameter, known))
            if factor == 1:
                # Other limits are those of a look at the image, not of its result.
                for limit in reached:
                    if whole[limit.index] == index:
                        report_limit(limit._replace(index=index))
        return predictions


class FixedScale(Wrapper):
    """A model that is shown every image at a scale that the user chose.

    Args:
        model: Any nucleus model, with its test-time augmentation and without tiles.
        factor: Factor of height and width, above 0.
    """

    def __init__(self, model: NucleusModel, factor: float):
        super().__init__(model)
        self.factor = factor
        self.scaled = at_factor(model, factor)

    def calibrate(self, image: np.ndarray) -> NucleusModel:
        """Calibrates the wrapped model; see `NucleusModel.calibrate`."""
        return self.scaled.calibrate(image)

    def observe(self, images: Sequence[np.ndarray]) -> list[list[Any]]:
        """Returns the evidence in the scaled images, mapped back to the images; see `NucleusModel.observe`."""
        return self.scaled.observe(images)

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        predictions = self.scaled._predict(images)
        known = self.config.KNOWN_DIAMETERS
        noted = []
        for index, found in enumerate(predictions):
            with limits_of([index]):
                noted.append(_note(found, self.factor, median_diameter(found.labels) or None, known))
        return noted

    def describe(self) -> dict[str, Any]:
        """Adds the factor; see `NucleusModel.describe`."""
        return {**super().describe(), "factor": self.factor}


class PhysicalScale(Wrapper):
    """A model that is shown every image at the scale that the size of its pixels and of its nuclei in µm say.

    Args:
        model: Any nucleus model, with its test-time augmentation and without tiles, that says which nuclei it knows.
        diameter: Diameter of the nuclei in µm, above 0.
    """

    def __init__(self, model: NucleusModel, diameter: float):
        super().__init__(model)
        self.diameter = diameter

    def at_pixel_size(self, pixel_size: float | None) -> NucleusModel:
        """Returns the model at the scale of images of a pixel size; see `NucleusModel.at_pixel_size`."""
        if pixel_size is None:
            raise ValueError(
                f"A diameter in µm ({self.diameter:g}) needs the size of a pixel, which the image does not say: give "
                "it (--pixel-size, or pixel_size=...), or the diameter in pixels."
            )
        scaled = FixedScale(self.model, _within(self.config.KNOWN_DIAMETERS[1] * pixel_size / self.diameter))
        if self.origin is not None:
            scaled.origin = partial(_at_pixel_size, self.origin, pixel_size)
        return scaled

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        return self.at_pixel_size(None)._predict(images)

    def describe(self) -> dict[str, Any]:
        """Adds the diameter; see `NucleusModel.describe`."""
        return {**super().describe(), "diameter": self.diameter}


def with_scale(model: NucleusModel) -> NucleusModel:
    """Returns the model with the test-time augmentation, the scale and the tiles of its settings.

    Args:
        model: Any nucleus model. An ensemble, whose settings have neither scale nor tiles, leaves both to its members.

    Returns:
        A model that finds the scale of every image if no scale and no diameter is set and KNOWN_DIAMETERS says which
        nuclei it knows; one with a fixed factor if SCALE or DIAMETER is set, or one for each pixel size if DIAMETER_UM
        is; else one that leaves images as they are.

    Raises:
        ValueError: DIAMETER or DIAMETER_UM is set, but the model does not say which nuclei it knows.
    """
    config, augmented = model.config, with_views(model)
    if not isinstance(config, SizeSettings):
        return augmented
    if config.SCALE:
        return FixedScale(augmented, config.SCALE)
    if config.DIAMETER or config.DIAMETER_UM:
        if not config.KNOWN_DIAMETERS:
            raise ValueError(
                "The model does not say which nuclei it knows, so a diameter does not tell its scale. Set its "
                "KNOWN_DIAMETERS (least, typical, largest; in pixels), or SCALE."
            )
        if config.DIAMETER_UM:
            return PhysicalScale(augmented, config.DIAMETER_UM)
        return FixedScale(augmented, _within(config.KNOWN_DIAMETERS[1] / config.DIAMETER))
    return AutoScale(augmented) if config.KNOWN_DIAMETERS else at_factor(augmented, 1.0)


def at_factor(model: NucleusModel, factor: float) -> NucleusModel:
    """Returns the model at a scale, with the tiles of its settings, whose size is that in the scaled image.

    Args:
        model: Any nucleus model without tiles.
        factor: Factor of height and width of the image.
    """
    config = model.config
    scaled = model if factor == 1 else Scaled(model, factor)
    if not config.TILE_SIZE:
        return scaled
    side, overlap = (max(1, math.ceil(pixels / factor)) for pixels in (config.TILE_SIZE, config.TILE_OVERLAP))
    return Tiles(scaled, max(side, 2 * overlap), overlap)


def find_factor(
    model: NucleusModel, image: np.ndarray, known: Sequence[float], first: Prediction | None = None
) -> tuple[float, float | None]:
    """Finds the factor that brings an image to the scale that a model knows; see the module's docstring.

    Args:
        model: Any nucleus model without tiles.
        image: Preprocessed image, uint8 `[H, W, 3]` RGB.
        known: Least, typical and largest diameter in pixels of the nuclei that the model knows.
        first: The model's prediction of the whole image at its own size, if there is one; otherwise windows of the
            image are looked at.

    Returns:
        (factor of height and width, 1.0 for the image's own size; diameter of the nuclei in the image's own pixels,
        None if there are none).
    """
    least, typical, largest = known
    seen = [first.labels] if first is not None else _look(model, image, 1.0)
    diameter = median_diameter(*seen)
    factor = 1.0
    if not diameter:
        factor, diameter = _look_elsewhere(model, image)
        if not diameter:
            return 1.0, None
    if least <= diameter * factor <= largest:
        return factor, diameter
    for _ in range(_PASSES):
        wanted = _within(typical / diameter)
        if max(wanted / factor, factor / wanted) < _CLOSE:
            break
        found = median_diameter(*_look(model, image, wanted))
        if not found:
            break
        factor, diameter = wanted, found
        if least <= diameter * factor <= largest:
            break
    return factor, diameter


def median_diameter(*labels: np.ndarray) -> float:
    """Returns the equivalent diameter of the nucleus in which the middle pixel of all nuclei, sorted by area, lies.

    Args:
        labels: Label images, int32 `[H, W]`.

    Returns:
        Diameter in pixels of the disc with the nucleus' area; 0 without nuclei.

    Examples:
        >>> labels = np.zeros((40, 40), np.int32)
        >>> labels[0, 0], labels[0, 5], labels[10:30, 10:30] = 1, 2, 3
        >>> round(median_diameter(labels), 1)
        22.6
    """
    areas = np.sort(np.concatenate([np.bincount(one.ravel())[1:] for one in labels]))
    pixels = np.cumsum(areas)
    if not len(pixels) or not pixels[-1]:
        return 0.0
    area = areas[np.searchsorted(pixels, pixels[-1] / 2)]
    return float(2 * math.sqrt(area / math.pi))


def restore_labels(prediction: Prediction, view: View, shape: tuple[int, int]) -> Prediction:
    """Maps the nuclei of a scaled view back to the image, each outline interpolated between its pixels.

    Args:
        prediction: Labels and scores of the view.
        view: The view; only scaled.
        shape: (height, width) of the image.

    Returns:
        Labels of the image's size, and the scores of the nuclei that still have a pixel.
    """
    labels, scores = prediction
    boxes = bounding_boxes(labels)
    # A margin of one pixel, so that an outline is interpolated between a nucleus and what surrounds it.
    low = np.maximum(boxes[:, :2] - 1, 0)
    high = np.minimum(boxes[:, 2:] + 1, labels.shape)
    boxes = np.concatenate([low, high], axis=1)
    crops = [labels[y1:y2, x1:x2] == number for number, (y1, x1, y2, x2) in enumerate(boxes, start=1)]
    boxes, crops = view.restore_instances(boxes, crops, shape)
    restored, kept = paint(boxes, [crop > 0.5 for crop in crops], scores, shape)
    return Prediction(restored, np.asarray(scores, np.float32)[kept])


def _at_pixel_size(origin: Callable[[], NucleusModel], pixel_size: float) -> NucleusModel:
    """Builds a model anew, for images of a pixel size."""
    return origin().at_pixel_size(pixel_size)


def _note(prediction: Prediction, factor: float, diameter: float | None, known: Sequence[float]) -> Prediction:
    """Returns a prediction with its scale, and reports nuclei of sizes at that scale that the model does not know."""
    if known and diameter and not known[0] <= diameter * factor <= known[2]:
        report_limit(UnknownSize(diameter, factor, (known[0], known[2])))
    return prediction.at_scale(factor, diameter)


def _look_elsewhere(model: NucleusModel, image: np.ndarray) -> tuple[float, float]:
    """Returns the factor, and the diameter, of the enlarged or reduced image in which most pixels are nuclei'."""
    best = (0, 1.0, 0.0)
    for factor in _FALLBACKS:
        seen = _look(model, image, factor)
        if sum(int(labels.max(initial=0)) for labels in seen) >= _LEAST_NUCLEI:
            best = max(best, (sum(np.count_nonzero(labels) for labels in seen), factor, median_diameter(*seen)))
    return best[1:]


def _look(model: NucleusModel, image: np.ndarray, factor: float) -> list[np.ndarray]:
    """Returns the label images of an image, or of windows of a large one, as a model finds them at a factor."""
    scaled = model if factor == 1 else Scaled(model, factor)
    # Limits concern the result, not the search for its scale.
    with watch_limits():
        return [scaled._predict([window])[0].labels for window in _windows(image, math.ceil(_WINDOW / factor))]


def _windows(image: np.ndarray, side: int) -> list[np.ndarray]:
    """Returns an image, or a few square windows of a large one: of much, but not of the most, contrast."""
    height, width = image.shape[:2]
    if height * width <= _WINDOWS * side**2:
        return [image]
    corners = [
        (round(y), round(x))
        for y in np.linspace(0, max(height - side, 0), math.ceil(height / side))
        for x in np.linspace(0, max(width - side, 0), math.ceil(width / side))
    ]
    windows = [image[y : y + side, x : x + side] for y, x in corners]
    # Every eighth pixel: contrast is compared, not measured.
    contrast = [float(window[::8, ::8].std()) for window in windows]
    ranks = np.argsort(contrast, kind="stable")
    chosen = {int(ranks[round(share * (len(ranks) - 1))]) for share in np.linspace(0.6, 0.95, _WINDOWS)}
    return [np.ascontiguousarray(windows[index]) for index in sorted(chosen)]


def _within(factor: float) -> float:
    """Returns a factor of two decimals, or of two digits below 0.1, between the least and the largest."""
    factor = min(max(factor, LEAST_FACTOR), LARGEST_FACTOR)
    return float(f"{factor:.2g}") if factor < 0.1 else round(factor, 2)
