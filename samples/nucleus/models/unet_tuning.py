"""Tuning of the post-processing of U-Nets on images with known nuclei."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.evaluation.scores import average_precision
from trainkit.search import TuningReport
from unet.config import UNetConfig
from unet.tuning import checked_grid, tune

# Values that are tried by default.
DEFAULT_GRID: dict[str, tuple[Any, ...]] = {
    "MASK_THRESHOLD": (0.3, 0.4, 0.5, 0.6, 0.7),
    "MARKER_THRESHOLD": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "BORDER_THRESHOLD": (0.1, 0.2, 0.3, 0.5, 0.7),
    "MIN_AREA": (0, 10, 20, 40),
}


def search_postprocessing(
    predict: Callable[[np.ndarray], np.ndarray],
    config: UNetConfig,
    dataset: NucleusDataset,
    grid: Mapping[str, Iterable[Any]] | None,
    search: str,
    progress: bool,
) -> TuningReport:
    """Searches for the best post-processing of a U-Net, whose probabilities are computed once.

    Args:
        predict: Function from an image, uint8 `[H, W, 3]` RGB, to the channels' probabilities, float32
            `[H, W, channels]` in 0..1.
        config: Settings to start from, which are not changed.
        dataset: Prepared data set with masks and without preprocessing.
        grid: Setting -> values to try; None for `DEFAULT_GRID`.
        search: Search strategy, one of `trainkit.search.SEARCHES`.
        progress: True to show a progress bar.
    """
    grid = checked_grid(grid or DEFAULT_GRID, config)
    if len(dataset.image_ids) == 0:
        raise DatasetError("There is no image to tune on.")
    probabilities, truth = [], []
    for image_id in tqdm(dataset.image_ids, desc="predict", unit="image", disable=not progress):
        truth.append(dataset.load_labels(image_id)[0])
        probabilities.append(predict(dataset.load_image(image_id)))
    return tune(probabilities, truth, config, grid, average_precision, search)
