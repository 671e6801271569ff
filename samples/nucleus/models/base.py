"""The interface of all nucleus models: images in, label images and scores out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np

from nucleus.images.arrays import Array, are_lazy, as_images
from nucleus.images.decoding import Planes
from nucleus.images.labels import bounding_boxes, paint
from nucleus.images.preprocess import Clahe
from nucleus.images.stretch import Stretch
from nucleus.models.settings import PredictionSettings, ViewSettings
from nucleus.models.views import View
from nucleus.models.voting import Found, merge_views

if TYPE_CHECKING:
    import os

    import keras

    from nucleus.datasets.dataset import NucleusDataset
    from trainkit.search import TuningReport

# Message about a model whose images cannot be preprocessed by regions.
NEEDS_WHOLE_IMAGES = "CLAHE equalises the whole image, which is read by tiles here: switch it off (CLAHE=False)"


class _Nuclei(NamedTuple):
    labels: np.ndarray
    scores: np.ndarray


class Prediction(_Nuclei):
    """The nuclei of one image: a tuple of labels and scores.

    Attributes:
        labels: int32 `[H, W]`, 0 background, 1..N one nucleus each.
        scores: float32 `[N]` in 0..1; `scores[k]` belongs to label k + 1.
        scale: Factor of height and width at which the model was shown the image; see `nucleus.models.scale`.
        diameter: Diameter in pixels of the image from which the scale was found; None where it was not looked for.
    """

    scale: float = 1.0
    diameter: float | None = None

    def at_scale(self, scale: float, diameter: float | None) -> Prediction:
        """Returns the same nuclei with the scale at which they were found.

        Args:
            scale: Factor of height and width at which the model was shown the image.
            diameter: Diameter of the nuclei in pixels of the image; None if it is unknown.
        """
        noted = Prediction(*self)
        noted.scale, noted.diameter = scale, diameter
        return noted


@dataclass(frozen=True)
class History:
    """Record of a fit, alike for every kind of model: a number of steps, and values for each of them.

    Attributes:
        step: Meaning of a step: "epoch" of a network, "trial" of a classical method's settings, "fold" of an ensemble's
            images.
        logs: Name -> one value for each step, so that `pandas.DataFrame(history.logs)` is a table with a row a step.
            A network's are the losses and scores of this call's epochs, in order, under the names of `training.csv`. A
            classical method's are the settings that were tried and `mAP`, the best first. An ensemble's are `images`,
            `threshold` and `mAP`, out of fold.
    """

    step: str
    logs: Mapping[str, Sequence[Any]]

    def __len__(self) -> int:
        """Returns the number of steps."""
        return max(map(len, self.logs.values()), default=0)


class NucleusModel(ABC):
    """Base class of models that find nuclei.

        model = load_model()
        labels, scores = model.predict(image)[0]

    `predict` is all that most users need. A wrapper (test-time augmentation, several networks as one) takes evidence
    instead: `observe` returns the model's intermediate result for an image, `restore` maps it from a flipped, turned or
    scaled view back to the image, and `conclude` merges all evidence of one image into a prediction.

    Attributes:
        config: Settings of the model: `PredictionSettings` where it preprocesses images, `ViewSettings` alone where it
            leaves that to other models.
        tunable: True for models with settings that `tune` searches without training.
        origin: Function that builds the model again, such as in another process; None where that is not known.
        lazily: Function that predicts arrays of dask when their nuclei are asked for; None in a model that
            `load_model` has not returned, which computes such arrays at once.
    """

    config: ViewSettings
    tunable: ClassVar[bool] = False
    origin: Callable[[], NucleusModel] | None = None
    lazily: Callable[[NucleusModel, Sequence[Any], str | None, Planes], list[Prediction]] | None = None

    def predict(
        self,
        images: Array | Sequence[Array],
        *,
        axes: str | None = None,
        channel: int | Sequence[int] | None = None,
        plane: int | Literal["all"] | None = None,
        project: Literal["max", "mean"] | None = None,
        frame: int | Literal["all"] | None = None,
        pixel_size: float | None = None,
    ) -> list[Prediction]:
        """Finds the nuclei of one image or of many.

        Images are preprocessed here, as in the model's training. Images of one size go through a network as one batch.
        Nuclei of dask's arrays are arrays of dask too, which are computed when they are asked for; see
        `nucleus.models.lazy_prediction`.

        Args:
            images: An array or a list of arrays, `[H, W]` grey, `[H, W, 3]` RGB or with other `axes`, of any real
                dtype, of NumPy, dask or zarr; see `nucleus.images.arrays.as_images`.
            axes: Meaning of the dimensions, a letter each: T frames, Z planes, C channels, Y rows, X columns, S samples
                of colour.
            channel: Number (from 1 on) of the channel to predict, or three for red, green and blue.
            plane: Number of the plane of a stack, from 1 on; "all" for every plane as an image of its own.
            project: Projection of all planes instead: "max" or "mean".
            frame: Number of the frame of a time series, from 1 on; "all" for every frame as an image of its own.
            pixel_size: Side of a pixel in µm, from which with the setting DIAMETER_UM the scale follows.

        Returns:
            One prediction per image, in the order of the images.

        Raises:
            ValueError: An array is not an image, or holds several channels, planes or frames of which none is chosen;
                or DIAMETER_UM is set and the size of a pixel is not given.

        Examples:
            >>> from nucleus import load_model
            >>> image = np.zeros((64, 64), np.uint8)
            >>> image[10:30, 20:40] = 200
            >>> labels, scores = load_model("classical/otsu").predict(image)[0]
            >>> labels.dtype, labels.shape, int(labels.max())
            (dtype('int32'), (64, 64), 1)
        """
        planes = Planes(channel, plane, project, frame)
        model = self.at_pixel_size(pixel_size)
        if self.lazily is not None and are_lazy(images):
            return self.lazily(model, images if isinstance(images, list | tuple) else [images], axes, planes)
        return model._predict([self.prepare(image) for image in as_images(images, axes, planes)])

    def at_pixel_size(self, pixel_size: float | None) -> NucleusModel:
        """Returns the model for images of a pixel size; another one only where DIAMETER_UM is set.

        Args:
            pixel_size: Side of a pixel in µm; None where it is not known.

        Raises:
            ValueError: The scale follows from it, and it is not known.
        """
        return self

    def fit(
        self,
        train: NucleusDataset,
        val: NucleusDataset | None,
        *,
        epochs: int | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> History:
        """Fits the model to images with masks.

        Only a network uses more than the images to train on. A classical method tries settings, see `tune`; an ensemble
        and a fusion learn to choose, and score themselves by cross-validation.

        Args:
            train: Prepared data set with masks and without preprocessing, to train on.
            val: Prepared data set of other images, to validate on; None for a model that is not a network.
            epochs: Total number of epochs of a network; by default that of its settings.
            callbacks: Keras callbacks of a network.

        Returns:
            The losses and scores of every step.

        Raises:
            ValueError: An image or a setting cannot be used, or the model cannot learn.
        """
        return self._learn(train)

    def _learn(self, train: NucleusDataset) -> History:
        """Fits a model that is no network; networks override `fit`."""
        raise ValueError(f"{type(self).__name__} cannot learn.")

    def tune(
        self,
        dataset: NucleusDataset,
        grid: Mapping[str, Iterable[Any]] | None = None,
        search: str = "coordinate",
        progress: bool = True,
    ) -> TuningReport:
        """Searches for the settings that need no training and score best, and leaves the model as it is.

        The score is the mAP of the 2018 Data Science Bowl. It is optimistic on the images that settings were chosen on:
        evaluate the model on others.

        Args:
            dataset: Prepared data set with masks, without preprocessing. Its images, or a U-Net's predictions for it
                (12 bytes a pixel with three channels), are held in memory.
            grid: Setting -> values to try; by default the main settings of the model.
            search: Search strategy, one of `trainkit.search.SEARCHES`.
            progress: True to show a progress bar.

        Returns:
            The report of all trials; its `start` is the trial of the model's settings.

        Raises:
            DatasetError: There is no image.
            ValueError: The model has no such settings, or a setting or value cannot be tried.
        """
        return self._tune(self, dataset, grid, search, progress)

    def _tune(self, shown: NucleusModel, dataset: NucleusDataset, *how: Any) -> TuningReport:
        """Tunes the model inside the wrappers of `shown`; `how` is grid, search and progress of `tune`.

        Models that are `tunable` override it.
        """
        raise ValueError(f"{type(self).__name__} has no thresholds to tune; U-Nets and classical methods have.")

    @abstractmethod
    def save(self, path: str | os.PathLike) -> None:
        """Writes the model so that `load_model(path)` returns it.

        Args:
            path: File to write.

        Raises:
            OSError: The file cannot be written.
        """

    def describe(self) -> dict[str, Any]:
        """Returns everything that its predictions depend on, as JSON can hold it: kind, settings, weights.

        Two models with equal descriptions predict the same; folders of results record it.
        """
        return {"kind": type(self).__name__, "settings": plain_settings(self.config)}

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Preprocesses an image, uint8 `[H, W, 3]` RGB, as the settings say: contrast equalisation, or nothing."""
        return preprocess(image, self.config) if isinstance(self.config, PredictionSettings) else image

    @property
    def needs_whole_images(self) -> bool:
        """True if images cannot be preprocessed by regions: CLAHE equalises a whole image."""
        return isinstance(self.config, PredictionSettings) and self.config.CLAHE

    def preparation(self, sample: Callable[[], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
        """Returns the preprocessing of the regions of an image that is not read whole.

        Args:
            sample: Function that returns a subsample of the image, uint8 `[H, W, 3]` RGB, which decides what a whole
                image decides.

        Returns:
            Function from a region, uint8 `[h, w, 3]` RGB, to what `prepare` would make of it.

        Raises:
            ValueError: Images cannot be preprocessed by regions.
        """
        if self.needs_whole_images:
            raise ValueError(NEEDS_WHOLE_IMAGES)
        if not isinstance(self.config, PredictionSettings) or not self.config.STRETCH:
            return lambda region: region
        levels = Stretch(*self.config.STRETCH_QUANTILES).levels(sample())
        return lambda region: levels[region]

    def calibrate(self, image: np.ndarray) -> NucleusModel:
        """Returns the model for the tiles of an image, with image-wide values (such as a threshold) taken from it.

        All tiles then share one threshold. A network has no image-wide values and returns itself.

        Args:
            image: Preprocessed image, uint8 `[H, W, 3]` RGB.
        """
        return self

    @abstractmethod
    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        """Finds the nuclei of preprocessed images, uint8 `[H, W, 3]` RGB."""

    def observe(self, images: Sequence[np.ndarray]) -> list[list[Any]]:
        """Returns the evidence of nuclei in preprocessed images.

        Args:
            images: uint8 `[H, W, 3]` RGB.

        Returns:
            For every image a list of evidence, one entry per view or network. The default implementation's evidence
            is the boxes, masks and scores of the predicted nuclei.
        """
        return [[_instances(prediction)] for prediction in self._predict(images)]

    def restore(self, evidence: Any, view: View, shape: tuple[int, int]) -> Any:
        """Maps evidence from a view of an image back to the image.

        Args:
            evidence: An entry of what `observe` returned for the view.
            view: Flip, turn and scale that made the view of the image.
            shape: (height, width) of the image.
        """
        boxes, crops, scores = evidence
        return *view.restore_instances(boxes, crops, shape), scores

    def conclude(self, evidence: Sequence[Any], shape: tuple[int, int]) -> Prediction:
        """Merges several pieces of evidence of an image into one prediction; by default, matching instances vote.

        Args:
            evidence: Entries that `observe` returned, mapped back to the image by `restore`.
            shape: (height, width) of the image.
        """
        boxes, masks, scores = merge_views(evidence, self.config.TEST_TIME_VOTES)
        labels, kept = paint(boxes, masks, scores, shape, "score")
        return Prediction(labels, np.asarray(scores, np.float32)[kept])


def predict(model: NucleusModel, image: np.ndarray) -> Prediction:
    """Finds the nuclei of one image: `model.predict(image)[0]`, under the name that earlier versions had for it.

    Args:
        model: Any nucleus model.
        image: `[H, W]` or `[H, W, C]`, see `NucleusModel.predict`.

    Raises:
        ValueError: The array is not an image.

    Examples:
        >>> from nucleus import load_model
        >>> image = np.zeros((64, 64), np.uint8)
        >>> image[10:30, 20:40] = 200
        >>> predict(load_model("classical/otsu"), image).labels.max()
        np.int32(1)
    """
    return model.predict(image)[0]


def preprocess(image: np.ndarray, config: PredictionSettings) -> np.ndarray:
    """Preprocesses an image, in training and in prediction alike.

    Args:
        image: uint8 `[H, W, 3]` RGB.
        config: Settings STRETCH, STRETCH_QUANTILES, CLAHE, CLAHE_CLIP_LIMIT and CLAHE_TILE_GRID.

    Returns:
        uint8 `[H, W, 3]` RGB; the image itself if all preprocessing is off.
    """
    if config.STRETCH:
        image = Stretch(*config.STRETCH_QUANTILES)(image)
    return Clahe(config.CLAHE_CLIP_LIMIT, tuple(config.CLAHE_TILE_GRID))(image) if config.CLAHE else image


def plain_settings(config: PredictionSettings) -> dict[str, Any]:
    """Returns the settings of a configuration by name, as JSON can hold them.

    Args:
        config: The configuration.
    """

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return value.tolist()
        return getattr(value, "__qualname__", str(value)) if callable(value) else value

    return {name: plain(value) for name, value in config.to_dict().items()}


def _instances(prediction: Prediction) -> Found:
    labels, scores = prediction
    boxes = bounding_boxes(labels)
    crops = [labels[y1:y2, x1:x2] == number for number, (y1, x1, y2, x2) in enumerate(boxes, start=1)]
    return boxes, crops, scores
