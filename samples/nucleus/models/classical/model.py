"""Thresholds, the watershed and active contours as a nucleus model."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nucleus.models.base import History, NucleusModel, Prediction
from nucleus.models.classical.config import ClassicalConfig
from nucleus.models.classical.grey import GreyRange, find_range, noise_deviation, smooth, to_grey
from nucleus.models.classical.masks import find_mask
from nucleus.models.classical.presets import PRESETS
from nucleus.models.classical.scores import score_nuclei
from nucleus.models.classical.separation import separate
from nucleus.models.recipe import Recipe, changed_settings
from trainkit.settings import SettingsError

if TYPE_CHECKING:
    from nucleus.datasets.dataset import NucleusDataset
    from trainkit.search import TuningReport

# Most pixels of an image that its thresholds are computed from, and the rows of each of the bands that are taken.
_SAMPLE_PIXELS, _BAND_ROWS = 1 << 24, 256


class ClassicalModel(NucleusModel):
    """Thresholds, the watershed and active contours: a baseline without weights, and without Keras.

    Args:
        config: Settings of the method; by default those of the preset.
        preset: Name of the preset whose settings hold where there is no configuration.
        settings: Attribute name -> value, on top of the preset.

    Examples:
        >>> model = ClassicalModel()
        >>> image = np.zeros((64, 64), np.uint8)
        >>> image[20:40, 20:40] = 200
        >>> labels, scores = model.predict(image)[0]
        >>> labels.shape, len(scores)
        ((64, 64), 1)
    """

    kind = "classical"
    summary = "thresholds, watershed and active contours: a baseline without weights"
    presets = PRESETS
    default_preset = "watershed"
    tunable = True

    config: ClassicalConfig

    def __init__(
        self,
        config: ClassicalConfig | None = None,
        preset: str = default_preset,
        settings: Mapping[str, Any] | None = None,
    ):
        self.preset = preset
        self.config = self.make_config("inference", preset, settings or {}) if config is None else config

    @classmethod
    def make_config(
        cls, mode: Literal["training", "inference"], preset: str, settings: Mapping[str, Any]
    ) -> ClassicalConfig:
        """Returns a configuration; see `nucleus.models.registry.make_config`."""
        if mode == "training":
            raise SettingsError("classical has no weights to train; it detects as it is.")
        return ClassicalConfig().update({**PRESETS[preset].settings, **settings})

    def _learn(self, train: NucleusDataset) -> History:
        """Tunes the main settings on images whose nuclei are known, and keeps the best ones; see `tune`.

        Returns:
            A step for every trial, the best first: the settings tried and their `mAP`.
        """
        report = self.tune(train)
        self.config.update(report.best)
        logs = {name: [trial.settings[name] for trial in report.trials] for name in report.best}
        return History("trial", {**logs, "mAP": [trial.score for trial in report.trials]})

    def _tune(self, shown: NucleusModel, dataset: NucleusDataset, *how: Any) -> TuningReport:
        # Every trial has the wrappers of its own settings.
        from nucleus.models.classical.tuning import search_classical

        return search_classical(ClassicalModel, self.config, dataset, *how)

    def save(self, path: str | os.PathLike) -> None:
        """Writes the recipe as JSON, which is all that there is of the model: the preset, and what differs from it.

        Args:
            path: File to write, ending in `.json`.

        Raises:
            ValueError: The name ends otherwise.
            OSError: The file cannot be written.
        """
        if Path(path).suffix != ".json":
            raise ValueError(f"{path}: the settings of a classical model are saved as .json")
        changed = changed_settings(self.config, self.make_config("inference", self.preset, {}))
        Recipe(self.preset, changed, self.kind).write(Path(path))

    def calibrate(self, image: np.ndarray) -> ClassicalModel:
        """Returns the model with Otsu's thresholds of a whole image; see `NucleusModel.calibrate`."""
        return _Calibrated(self.config, self._range(*self._grey(_sample_rows(image))))

    def _predict(self, images: Sequence[np.ndarray]) -> list[Prediction]:
        return [self._find(image) for image in images]

    def _find(self, image: np.ndarray) -> Prediction:
        grey, smoothed = self._grey(image)
        grey_range = self._range(grey, smoothed)
        if grey_range is None:
            return Prediction(np.zeros(image.shape[:2], np.int32), np.zeros(0, np.float32))
        levels = grey_range.levels(smoothed)
        labels = separate(find_mask(levels, self.config), self.config)
        return Prediction(labels, score_nuclei(labels, levels))

    def _grey(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the grey levels of an image, as they are and smoothed."""
        grey = to_grey(image, self.config.CHANNEL)
        return grey, smooth(grey, self.config.SMOOTHING)

    def _range(self, grey: np.ndarray, smoothed: np.ndarray) -> GreyRange | None:
        config = self.config
        least_contrast = config.MIN_CONTRAST * noise_deviation(grey)
        return find_range(smoothed, config.POLARITY, least_contrast, config.CLASSES)


class _Calibrated(ClassicalModel):
    """A classical model whose thresholds are those of one image.

    Args:
        config: Settings of the method.
        grey_range: Range of the image's grey levels; None where it has no nuclei.
    """

    def __init__(self, config: ClassicalConfig, grey_range: GreyRange | None):
        super().__init__(config)
        self._of_image = grey_range

    def _range(self, grey: np.ndarray, smoothed: np.ndarray) -> GreyRange | None:
        return self._of_image


def _sample_rows(image: np.ndarray) -> np.ndarray:
    """Returns an image, of a large one bands of rows spread evenly over it: thresholds need no more."""
    bands = max(1, _SAMPLE_PIXELS // (_BAND_ROWS * image.shape[1]))
    if bands * _BAND_ROWS >= image.shape[0]:
        return image
    starts = np.linspace(0, image.shape[0] - _BAND_ROWS, bands).astype(int)
    return np.concatenate([image[start : start + _BAND_ROWS] for start in starts])
