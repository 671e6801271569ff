"""Tuning how a U-Net's channels become nuclei, on images whose nuclei are known."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.evaluation.scores import average_precision

if TYPE_CHECKING:
    from nucleus.models.config import ModelConfig
    from nucleus.models.inference import UNetPredictor
    from trainkit.search import TuningReport

# What is tried unless something else is asked for.
DEFAULT_GRID: dict[str, tuple[Any, ...]] = {
    "MASK_THRESHOLD": (0.3, 0.4, 0.5, 0.6, 0.7),
    "MARKER_THRESHOLD": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "BORDER_THRESHOLD": (0.1, 0.2, 0.3, 0.5, 0.7),
    "MIN_AREA": (0, 10, 20, 40),
}


def tune_postprocessing(
    predictor: UNetPredictor,
    dataset: NucleusDataset,
    grid: Mapping[str, Iterable[Any]] | None = None,
    search: str = "coordinate",
    progress: bool = True,
) -> TuningReport:
    """Tries thresholds and methods; the score is the mAP of the 2018 Data Science Bowl.

    Settings that score best on some images flatter the model on these: score it on others.

    Args:
        predictor: A U-Net in its preprocessing, from `nucleus.models.inference.load_model`.
        dataset: Prepared, with masks and without preprocessing. Its predictions are held in memory, 12 bytes a pixel
            with three channels.
        grid: Setting -> values to try; by default `DEFAULT_GRID`.
        search: See `trainkit.search.search_settings`.
        progress: Shows a progress bar for the predictions.

    Returns:
        The report of `unet.tuning.tune`.

    Raises:
        DatasetError: There is no image.
        ValueError: A setting or value cannot be tried.
    """
    from unet.tuning import checked_grid, tune

    grid = checked_grid(grid or DEFAULT_GRID, predictor.config)
    if len(dataset.image_ids) == 0:
        raise DatasetError("There is no image to tune on.")
    probabilities, truth = [], []
    for image_id in tqdm(dataset.image_ids, desc="predict", unit="image", disable=not progress):
        truth.append(dataset.load_labels(image_id)[0])
        probabilities.append(predictor.predict_probabilities(dataset.load_image(image_id)))
    return tune(probabilities, truth, predictor.config, grid, average_precision, search)


def parse_values(config: ModelConfig, name: str, text: str) -> tuple[Any, ...]:
    """Reads the values to try from a comma-separated list, such as `0.3,0.5` or `watershed,random-walker`.

    Args:
        config: Says of which type they are, and which are allowed.
        name: Of the setting.
        text: The list.

    Raises:
        ValueError: A value is missing, or the setting cannot have it.
    """
    values = split_values(text)
    if not all(values):
        raise ValueError(f"{name} needs values separated by commas. Received: {text!r}")
    return tuple(getattr(copy.copy(config).update({name: value}), name) for value in values)


def split_values(text: str) -> list[str]:
    """Splits a list at its commas, but for those inside brackets: `(8,16),(16,32)` are two values.

    Args:
        text: The list.
    """
    values, depth = [""], 0
    for letter in text:
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and not depth:
            values.append("")
        else:
            values[-1] += letter
    return [value.strip() for value in values]
