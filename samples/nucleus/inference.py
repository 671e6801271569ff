"""One way in for prediction: an image goes in as it was read, a label image and scores come out."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nucleus.config import NucleusConfig
from nucleus.labels import areas, paint, relabel_sequential
from nucleus.preprocess import Clahe

if TYPE_CHECKING:
    from mrcnn.model import MaskRCNN


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


def preprocessing(config: NucleusConfig) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns what a configuration does to every image, in training and in prediction alike.

    Args:
        config: Settings CLAHE, CLAHE_CLIP_LIMIT and CLAHE_TILE_GRID.

    Returns:
        A function of a uint8 `[H, W, 3]` RGB image that returns another, or None if images are used as they are.
    """
    return Clahe(config.CLAHE_CLIP_LIMIT, tuple(config.CLAHE_TILE_GRID)) if config.CLAHE else None


def predict(model: Predictor | MaskRCNN | Any, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Finds the nuclei of one image.

    Args:
        model: An object with `predict_labels`, or a `MaskRCNN` in inference mode that was built from a
            `NucleusConfig`.
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
    predictor = model if hasattr(model, "predict_labels") else MaskRCNNPredictor(model)
    return predictor.predict_labels(image)


def load_model(weights: str, config: NucleusConfig, model_dir: str = "logs") -> MaskRCNNPredictor:
    """Builds a Mask R-CNN for inference and loads its weights.

    Args:
        weights: Weights file of a model with this configuration.
        config: Inference configuration, see `nucleus.config.make_config`.
        model_dir: Folder that `MaskRCNN` takes for its logs; nothing is written to it.

    Returns:
        The predictor, to be given to `predict`.

    Raises:
        ValueError: The file is missing, is no weights file, or belongs to another network: every layer's weights
            must be in it.
    """
    from mrcnn.model import MaskRCNN

    model = MaskRCNN(mode="inference", config=config, model_dir=model_dir)
    model.load_weights(str(weights))
    return MaskRCNNPredictor(model)


def _drop_small(labels: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Removes labels of fewer pixels; returns the relabelled image and the indices of those kept."""
    keep = np.concatenate([[False], areas(labels) >= least])
    return relabel_sequential(np.where(keep[labels], labels, 0))
