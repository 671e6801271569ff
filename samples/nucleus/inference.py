"""One way in for prediction: an image goes in as it was read, a label image and scores come out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nucleus.config import ApplicationSettings, ModelConfig, NucleusConfig, inference_settings, make_config
from nucleus.labels import bounding_boxes, drop_small, paint
from nucleus.models import MODELS
from nucleus.preprocess import Clahe
from nucleus.settings import PredictionSettings, ViewSettings
from nucleus.stretch import Stretch
from nucleus.tta import average_views, instances_of_views, vote_of_views
from nucleus.views import View, make_views
from nucleus.voting import Found, merge_views
from nucleus.weights import find_recipe

if TYPE_CHECKING:
    from mrcnn.model import MaskRCNN
    from unet.model import UNet


class Predictor(Protocol):
    """Anything that finds nuclei."""

    def predict_labels(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (labels int32 `[H, W]`, scores float32 `[N]`) of a uint8 `[H, W, 3]` RGB image."""


class MaskRCNNPredictor:
    """A Mask R-CNN with the application's preprocessing before it and its overlap rule after it.

    With test-time augmentation the image is preprocessed once, and the rule and the least area hold for what the views
    agreed on.

    Args:
        model: A `MaskRCNN` in inference mode.
        config: Settings of preprocessing (CLAHE...), test-time augmentation, OVERLAP_RULE, MIN_AREA and FILL_HOLES; the
            model's own by default.
    """

    def __init__(self, model: MaskRCNN, config: NucleusConfig | None = None):
        self.model = model
        self.config = model.config if config is None else config
        self._preprocess = preprocessing(self.config)
        self._views = self.config.make_views()

    def predict_labels(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds nuclei; see `predict`."""
        if self._views != make_views():
            return merge_and_paint(self.find_in_views(image), image.shape[:2], self.config)
        found = self.model.detect_instances([self._prepare(image)])[0]
        instances = found.boxes, [found.crop(index) for index in range(len(found.boxes))], found.scores
        return _paint(instances, image.shape[:2], self.config)

    def find_in_views(self, image: np.ndarray) -> Iterator[Found]:
        """Finds instances in each of the views of an image; see `nucleus.tta.instances_of_views`."""
        return instances_of_views(self._find, self._prepare(image), self._views)

    def _prepare(self, image: np.ndarray) -> np.ndarray:
        return image if self._preprocess is None else self._preprocess(image)

    def _find(self, prepared: np.ndarray) -> Found:
        found = self.model.detect_instances([prepared])[0]
        return found.boxes, [found.crop_probabilities(index) for index in range(len(found.boxes))], found.scores


class UNetPredictor:
    """A U-Net with the application's preprocessing before it, and with test-time augmentation where that is set.

    Args:
        model: A `UNet`. If its configuration is no `NucleusUNetConfig`, images are used as they are.
    """

    def __init__(self, model: UNet):
        self.model = model
        self.config = model.config
        ours = isinstance(model.config, ApplicationSettings)
        self._preprocess = preprocessing(model.config) if ours else None
        self._views = model.config.make_views() if ours else make_views()

    def predict_labels(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds nuclei; see `predict`."""
        from unet.postprocess import PostprocessSettings, postprocess

        return postprocess(self.predict_probabilities(image), PostprocessSettings.from_config(self.config))

    def predict_probabilities(self, image: np.ndarray) -> np.ndarray:
        """Predicts the channels, float32 `[H, W, channels]` in 0..1, of a uint8 `[H, W, 3]` RGB image."""
        prepared = image if self._preprocess is None else self._preprocess(image)
        return average_views(lambda view: self.model.predict([view])[0], prepared, self._views)


class VotingPredictor:
    """Test-time augmentation of anything that finds nuclei: those found in several views of an image vote.

    A Mask R-CNN and a U-Net do better without: what they are configured to, from probabilities, with the image
    preprocessed once.

    Args:
        model: A `Predictor`.
        views: One or more; see `nucleus.views.make_views`.
        least_share: Share of the views that must show a nucleus, above 0 and at most 1.
    """

    def __init__(self, model: Predictor, views: Sequence[View], least_share: float = 0.5):
        self.model = model
        self.views = tuple(views)
        self.least_share = least_share

    def predict_labels(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds nuclei; see `predict`."""
        instances = vote_of_views(self._find, image, self.views, self.least_share)
        return _paint(instances, image.shape[:2])

    def _find(self, image: np.ndarray) -> Found:
        labels, scores = self.model.predict_labels(image)
        boxes = bounding_boxes(labels)
        crops = [labels[y1:y2, x1:x2] == number for number, (y1, x1, y2, x2) in enumerate(boxes, start=1)]
        return boxes, crops, scores


def merge_and_paint(
    found: Iterable[Found], shape: tuple[int, int], config: NucleusConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Makes one label image of what Mask R-CNNs found in several views of an image, or several of them in one.

    Args:
        found: For each view, and each model, boxes, probabilities and scores; see `nucleus.voting.merge_views`.
        shape: (height, width) of the image.
        config: Settings TEST_TIME_VOTES, DETECTION_MASK_THRESHOLD, OVERLAP_RULE, MIN_AREA and FILL_HOLES.

    Returns:
        See `predict`.
    """
    instances = merge_views(found, config.TEST_TIME_VOTES, config.DETECTION_MASK_THRESHOLD)
    return _paint(instances, shape, config)


def preprocessing(config: PredictionSettings) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns what a configuration does to every image, in training and in prediction alike.

    Args:
        config: Settings STRETCH, STRETCH_QUANTILES, CLAHE, CLAHE_CLIP_LIMIT and CLAHE_TILE_GRID.

    Returns:
        A function of a uint8 `[H, W, 3]` RGB image that returns another, or None if images are used as they are.
    """
    steps: list[Callable[[np.ndarray], np.ndarray]] = []
    if config.STRETCH:
        steps.append(Stretch(*config.STRETCH_QUANTILES))
    if config.CLAHE:
        steps.append(Clahe(config.CLAHE_CLIP_LIMIT, tuple(config.CLAHE_TILE_GRID)))
    return (lambda image: reduce(lambda done, step: step(done), steps, image)) if steps else None


def predict(model: Predictor | MaskRCNN | UNet, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nuclei of one image.

    Args:
        model: An object with `predict_labels`, a `MaskRCNN` in inference mode that was built from a `NucleusConfig`,
            or a `UNet`.
        image: uint8 `[H, W, 3]` RGB as `nucleus.images.read_image` returns it: preprocessing happens here.

    Returns:
        labels: int32 `[H, W]`, 0 background, 1..N one nucleus each.
        scores: float32 `[N]` in 0..1; `scores[k]` belongs to label k + 1.

    Raises:
        ValueError: `image` is no 8-bit RGB image with pixels.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(f"Expected a uint8 [H, W, 3] RGB image. Received: {image.dtype} {image.shape}")
    return as_predictor(model).predict_labels(image)


def as_predictor(model: Predictor | MaskRCNN | UNet) -> Predictor:
    """Returns what finds nuclei with a model: the model in its preprocessing, or the object itself.

    Another object whose `config` is a `ViewSettings` that asks for test-time augmentation gets it by voting.
    """
    if hasattr(model, "detect_instances"):
        return MaskRCNNPredictor(model)
    if hasattr(model, "keras_model"):
        # A U-Net finds labels by itself, in images that are preprocessed already.
        return UNetPredictor(model)
    config = getattr(model, "config", None)
    if isinstance(model, MaskRCNNPredictor | UNetPredictor) or not isinstance(config, ViewSettings):
        return model
    views = config.make_views()
    return model if views == make_views() else VotingPredictor(model, views, config.TEST_TIME_VOTES)


def load_model(
    weights: str | os.PathLike | None, config: ModelConfig | None = None, model_dir: str = "logs"
) -> Predictor:
    """Builds a model for inference and loads its weights.

    Args:
        weights: Weights file of a model with this configuration; None for a model that has none.
        config: Inference configuration, see `nucleus.config.make_config`; by default the recipe that stands beside
            the weights says which.
        model_dir: Folder that the model takes for its logs; nothing is written to it.

    Returns:
        The predictor, to be given to `predict`.

    Raises:
        ValueError: The file is missing, is no weights file, or belongs to another network: every layer's weights
            must be in it. Or there is no configuration and no recipe; or the model has no weights and some are
            given, or the other way round.
    """
    if config is None and weights is not None:
        config = _recipe_config(weights)
    if config is None:
        raise ValueError("Neither weights nor a configuration say which model to build.")
    kind = MODELS[config.model_kind]
    if kind.learns == (weights is None):
        raise ValueError(f"{config.model_kind} {'needs' if kind.learns else 'has no'} weights. Received: {weights}")
    model = kind.adapter().build(config, model_dir)
    if kind.learns:
        model.load_weights(str(weights))
    return as_predictor(model)


def _recipe_config(weights: str | os.PathLike) -> ModelConfig:
    recipe = find_recipe(weights)
    if recipe is None:
        raise ValueError(f"{weights}: no recipe.json stands beside it that tells its network. Name it: config=…")
    return make_config("inference", recipe.preset, inference_settings(recipe.settings), recipe.model)


def _paint(
    instances: Found, shape: tuple[int, int], config: NucleusConfig | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Paints instances into a label image as settings say, or as they are; returns it and the scores of those in it."""
    boxes, masks, scores = instances
    labels, kept = paint(boxes, masks, scores, shape, "score" if config is None else config.OVERLAP_RULE)
    scores = np.asarray(scores, np.float32)[kept]
    if config is None:
        return labels, scores
    # As in a U-Net's post-processing: a hole is part of the area, and what is dropped may leave one.
    labels = _without_holes(labels, config)
    if config.MIN_AREA > 1:
        labels, large = drop_small(labels, config.MIN_AREA)
        scores = scores[large]
        labels = _without_holes(labels, config)
    return labels, scores


def _without_holes(labels: np.ndarray, config: NucleusConfig) -> np.ndarray:
    if not config.FILL_HOLES:
        return labels
    from unet.postprocess import fill_holes

    return fill_holes(labels)
