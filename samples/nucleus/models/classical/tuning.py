"""Tuning the classical methods on images whose nuclei are known."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.evaluation.scores import average_precision
from nucleus.models.base import NucleusModel
from nucleus.models.classical.config import ClassicalConfig
from nucleus.models.tta import with_views
from trainkit.search import TuningReport, search_settings
from trainkit.settings import SettingsError


def default_grid(config: ClassicalConfig) -> dict[str, tuple[Any, ...]]:
    """Returns what is tried unless something else is asked for: settings that matter to the configuration's methods."""
    grid: dict[str, tuple[Any, ...]] = {"SMOOTHING": (0.0, 0.5, 1.0, 1.5)}
    if config.THRESHOLD == "local":
        grid |= {"LOCAL_WINDOW": (21, 31, 41, 61), "LEVEL": (0.2, 0.3, 0.35, 0.4), "LOCAL_OFFSET": (0.0, 0.05, 0.1)}
    if config.CONTOURS == "chan-vese":
        grid["CONTOUR_WINDOW"] = (0, 31, 45, 61, 81)
    elif config.CONTOURS == "geodesic":
        grid |= {"EDGE_SIGMA": (1.0, 1.5, 2.0), "BALLOON": (-1, 0, 1)}
    if config.SEPARATION == "watershed":
        grid |= {"LEVEL": (0.35, 0.4, 0.45, 0.5), "DISTANCE_SMOOTHING": (1.0, 2.0, 3.0), "NECK": (0.8, 0.85, 0.9, 0.95)}
    return {**grid, "OPENING_RADIUS": (0, 1, 2), "MIN_AREA": (0, 10, 20, 40)}


def tune(
    make_model: Callable[[ClassicalConfig], NucleusModel],
    config: ClassicalConfig,
    dataset: NucleusDataset,
    grid: Mapping[str, Iterable[Any]] | None = None,
    search: str = "coordinate",
    progress: bool = True,
) -> TuningReport:
    """Tries settings; the score is the mAP of the 2018 Data Science Bowl.

    Settings that score best on some images flatter the method on these: score it on others.

    Args:
        make_model: Returns the model of a configuration.
        config: The settings to begin with; it is not changed.
        dataset: Prepared, with masks and without preprocessing. Its images are held in memory.
        grid: Setting -> values to try; by default `default_grid(config)`.
        search: See `trainkit.search.search_settings`.
        progress: Shows a progress bar, of the images of all trials so far.

    Returns:
        The report; its `start` is the trial of the settings at hand.

    Raises:
        DatasetError: There is no image.
        SettingsError: A setting is unknown or cannot have a value, here or together with others.
    """
    values = {name: _checked(config, name, choices) for name, choices in (grid or default_grid(config)).items()}
    if len(dataset.image_ids) == 0:
        raise DatasetError("There is no image to tune on.")
    images = [(dataset.load_image(index), dataset.load_labels(index)[0]) for index in dataset.image_ids]
    with tqdm(desc="tune", unit="image", disable=not progress) as bar:

        def score(settings: dict[str, Any]) -> list[float]:
            model = with_views(make_model(_changed(config, settings)))
            scores = []
            for image, truth in images:
                scores.append(float(average_precision(truth, model.predict(image)[0].labels)))
                bar.update()
            return scores

        return search_settings(score, {name: getattr(config, name) for name in values}, values, search)


def _checked(config: ClassicalConfig, name: str, choices: Iterable[Any]) -> tuple[Any, ...]:
    # Fails now rather than after a long search.
    values = tuple(getattr(_changed(config, {name: choice}), name) for choice in choices)
    if not values:
        raise SettingsError(f"{name} has no values to try.")
    return values


def _changed(config: ClassicalConfig, settings: Mapping[str, Any]) -> ClassicalConfig:
    return copy.copy(config).update(settings)
