"""Tuning of the classical methods on images with known nuclei."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.evaluation.scores import average_precision
from nucleus.models.base import NucleusModel
from nucleus.models.classical.config import ClassicalConfig
from nucleus.models.scale import with_scale
from trainkit.search import TuningReport, search_settings
from trainkit.settings import SettingsError


def default_grid(config: ClassicalConfig) -> dict[str, tuple[Any, ...]]:
    """Returns the default values to try, for the settings of the configuration's methods.

    Args:
        config: Settings of the methods.
    """
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


def search_classical(
    make_model: Callable[[ClassicalConfig], NucleusModel],
    config: ClassicalConfig,
    dataset: NucleusDataset,
    grid: Mapping[str, Iterable[Any]] | None,
    search: str,
    progress: bool,
) -> TuningReport:
    """Searches for the best settings of a model; see `nucleus.models.base.NucleusModel.tune`.

    Args:
        make_model: Function from a configuration to its model.
        config: Settings to start from, which are not changed.
        dataset: Prepared data set with masks and without preprocessing.
        grid: Setting -> values to try; None for `default_grid(config)`.
        search: Search strategy; see `trainkit.search.search_settings`.
        progress: True to show a progress bar.
    """
    values = {name: _checked(config, name, choices) for name, choices in (grid or default_grid(config)).items()}
    if len(dataset.image_ids) == 0:
        raise DatasetError("There is no image to tune on.")
    images = [(dataset.load_image(index), dataset.load_labels(index)[0]) for index in dataset.image_ids]
    with tqdm(desc="tune", unit="image", disable=not progress) as bar:

        def score(settings: dict[str, Any]) -> list[float]:
            model = with_scale(make_model(config.changed(settings)))
            scores = []
            for image, truth in images:
                scores.append(float(average_precision(truth, model.predict(image)[0].labels)))
                bar.update()
            return scores

        return search_settings(score, {name: getattr(config, name) for name in values}, values, search)


def _checked(config: ClassicalConfig, name: str, choices: Iterable[Any]) -> tuple[Any, ...]:
    # Values are checked before the search, which takes long.
    values = tuple(getattr(config.changed({name: choice}), name) for choice in choices)
    if not values:
        raise SettingsError(f"{name} has no values to try.")
    return values
