"""Tuning of settings that need no training, on images with masks."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.evaluation.scores import average_precision
from nucleus.models.base import NucleusModel
from nucleus.models.classical.config import ClassicalConfig
from nucleus.models.classical.model import ClassicalModel
from nucleus.models.pixelwise import mean_probabilities
from nucleus.models.registry import ModelConfig
from trainkit.search import TuningReport

# Values that are tried by default.
DEFAULT_GRID: dict[str, tuple[Any, ...]] = {
    "MASK_THRESHOLD": (0.3, 0.4, 0.5, 0.6, 0.7),
    "MARKER_THRESHOLD": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "BORDER_THRESHOLD": (0.1, 0.2, 0.3, 0.5, 0.7),
    "MIN_AREA": (0, 10, 20, 40),
}


def tune(
    model: NucleusModel,
    dataset: NucleusDataset,
    grid: Mapping[str, Iterable[Any]] | None = None,
    search: str = "coordinate",
    progress: bool = True,
) -> TuningReport:
    """Tries settings of a classical model, or thresholds and methods with which a U-Net's channels become nuclei.

    The score is the mAP of the 2018 Data Science Bowl. It is optimistic on the images that settings were chosen on:
    evaluate the model on others.

    Args:
        model: A classical model or a U-Net, with or without test-time augmentation.
        dataset: Prepared data set with masks, without preprocessing. A U-Net's predictions for it are held in memory,
            12 bytes a pixel with three channels.
        grid: Setting -> values to try; by default the model's main settings.
        search: See `trainkit.search.search_settings`.
        progress: True to show a progress bar.

    Returns:
        The report of all trials.

    Raises:
        DatasetError: There is no image.
        ValueError: A setting or value cannot be tried.
    """
    if isinstance(model.config, ClassicalConfig):
        return ClassicalModel(model.config).tune(dataset, grid, search, progress)
    from unet.tuning import checked_grid
    from unet.tuning import tune as tune_postprocessing

    grid = checked_grid(grid or DEFAULT_GRID, model.config)
    if len(dataset.image_ids) == 0:
        raise DatasetError("There is no image to tune on.")
    probabilities, truth = [], []
    for image_id in tqdm(dataset.image_ids, desc="predict", unit="image", disable=not progress):
        truth.append(dataset.load_labels(image_id)[0])
        (evidence,) = model.observe([model.prepare(dataset.load_image(image_id))])
        probabilities.append(mean_probabilities(evidence))
    return tune_postprocessing(probabilities, truth, model.config, grid, average_precision, search)


def parse_values(config: ModelConfig, name: str, text: str) -> tuple[Any, ...]:
    """Reads the values to try from a comma-separated list, such as `0.3,0.5` or `watershed,random-walker`.

    Args:
        config: Configuration that determines the setting's type and permitted values.
        name: Name of the setting.
        text: The comma-separated list.

    Raises:
        ValueError: A value is missing, or the setting cannot have it.
    """
    values = split_values(text)
    if not all(values):
        raise ValueError(f"{name} needs values separated by commas. Received: {text!r}")
    return tuple(getattr(copy.copy(config).update({name: value}), name) for value in values)


def split_values(text: str) -> list[str]:
    """Splits a list at its commas, except those inside brackets: `(8,16),(16,32)` are two values.

    Args:
        text: The comma-separated list.
    """
    values, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            values.append("")
        else:
            values[-1] += letter
    return [value.strip() for value in values]
