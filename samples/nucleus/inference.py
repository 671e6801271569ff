"""One way in for prediction: an image goes in as it was read, a label image and scores come out."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np

from nucleus.config import (
    ApplicationSettings,
    NucleusConfig,
    NucleusUNetConfig,
    inference_settings,
    make_config,
)
from nucleus.labels import areas, paint, relabel_sequential
from nucleus.models import MODELS
from nucleus.preprocess import Clahe
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

    Args:
        model: A `MaskRCNN` in inference mode.
        config: Settings of preprocessing (CLAHE...), OVERLAP_RULE and MIN_AREA; the model's own by default.
    """

    def __init__(self, model: MaskRCNN, config: NucleusConfig | None = None):
        self.model = model
        self.config = model.config if config is None else config
        self._preprocess = preprocessing(self.config)

    def predict_labels(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds nuclei; see `predict`."""
        prepared = image if self._preprocess is None else self._preprocess(image)
        found = self.model.detect_instances([prepared])[0]
        crops = [found.crop(index) for index in range(len(found.boxes))]
        labels, kept = paint(found.boxes, crops, found.scores, image.shape[:2], rule=self.config.OVERLAP_RULE)
        scores = np.asarray(found.scores, np.float32)[kept]
        if self.config.MIN_AREA > 1:
            labels, large = _drop_small(labels, self.config.MIN_AREA)
            scores = scores[large]
        return labels, scores


class UNetPredictor:
    """A U-Net with the application's preprocessing before it.

    Args:
        model: A `UNet`. If its configuration is no `NucleusUNetConfig`, images are used as they are.
    """

    def __init__(self, model: UNet):
        self.model = model
        self.config = model.config
        self._preprocess = preprocessing(model.config) if isinstance(model.config, ApplicationSettings) else None

    def predict_labels(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds nuclei; see `predict`."""
        return self.model.predict_labels(self._prepare(image))

    def predict_probabilities(self, image: np.ndarray) -> np.ndarray:
        """Predicts the channels, float32 `[H, W, channels]` in 0..1, of a uint8 `[H, W, 3]` RGB image."""
        return self.model.predict([self._prepare(image)])[0]

    def _prepare(self, image: np.ndarray) -> np.ndarray:
        return image if self._preprocess is None else self._preprocess(image)


def preprocessing(config: ApplicationSettings) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns what a configuration does to every image, in training and in prediction alike.

    Args:
        config: Settings CLAHE, CLAHE_CLIP_LIMIT and CLAHE_TILE_GRID.

    Returns:
        A function of a uint8 `[H, W, 3]` RGB image that returns another, or None if images are used as they are.
    """
    return Clahe(config.CLAHE_CLIP_LIMIT, tuple(config.CLAHE_TILE_GRID)) if config.CLAHE else None


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
    """Returns what finds nuclei with a model: the model in its preprocessing, or the object itself."""
    if hasattr(model, "detect_instances"):
        return MaskRCNNPredictor(model)
    # A U-Net finds labels by itself, in images that are preprocessed already.
    return UNetPredictor(model) if hasattr(model, "keras_model") else model


def load_model(
    weights: str | os.PathLike, config: NucleusConfig | NucleusUNetConfig | None = None, model_dir: str = "logs"
) -> MaskRCNNPredictor | UNetPredictor:
    """Builds a model for inference and loads its weights.

    Args:
        weights: Weights file of a model with this configuration.
        config: Inference configuration, see `nucleus.config.make_config`; by default the recipe that stands beside
            the weights says which.
        model_dir: Folder that the model takes for its logs; nothing is written to it.

    Returns:
        The predictor, to be given to `predict`.

    Raises:
        ValueError: The file is missing, is no weights file, or belongs to another network: every layer's weights
            must be in it. Or there is no configuration and no recipe.
    """
    if config is None:
        config = _recipe_config(weights)
    model = MODELS[config.model_kind].adapter().build(config, model_dir)
    model.load_weights(str(weights))
    return as_predictor(model)


def _recipe_config(weights: str | os.PathLike) -> NucleusConfig | NucleusUNetConfig:
    recipe = find_recipe(weights)
    if recipe is None:
        raise ValueError(f"{weights}: no recipe.json stands beside it that tells its network. Name it: config=…")
    return make_config("inference", recipe.preset, inference_settings(recipe.settings), recipe.model)


def _drop_small(labels: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Removes labels of fewer pixels; returns the relabelled image and the indices of those kept."""
    keep = np.concatenate([[False], areas(labels) >= least])
    return relabel_sequential(np.where(keep[labels], labels, 0))
