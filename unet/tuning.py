"""Search for the post-processing settings that score best on a validation set.

The network's probabilities are computed once; only the post-processing is repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from trainkit.search import TuningReport, search_settings
from unet.postprocess import PostprocessSettings, config_name, postprocess

Metric = Callable[[np.ndarray, np.ndarray], float]
_FIELDS = {config_name(field.name): field.name for field in fields(PostprocessSettings)}


def tune(
    probabilities: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    config: Any,
    grid: Mapping[str, Iterable[Any]],
    metric: Metric,
    search: str = "grid",
) -> TuningReport:
    """Tries post-processing settings on images whose nuclei are known.

    Args:
        probabilities: float `[H, W, C]` in 0..1 for each image, predicted by the network.
        truth: Integer label image `[H, W]` for each image.
        config: Configuration that the search starts from (see `PostprocessSettings.from_config`), or a
            `PostprocessSettings`.
        grid: Values to try by configuration name, such as "MASK_THRESHOLD", "MIN_AREA" or "POSTPROCESS".
        metric: Score of one image, a function of the true and the predicted label image; higher is better.
        search: Kind of search, one of `trainkit.search.SEARCHES`.

    Returns:
        Report of all trials; its `start` is the trial of the configuration's own settings.

    Raises:
        ValueError: The lists are empty or differ in length, a setting is unknown, has no values or is out of range, or
            the metric returned no finite number.
    """
    if len(probabilities) != len(truth) or not len(truth):
        raise ValueError(
            "Tuning needs images, each with its probabilities and its label image. "
            f"Received: {len(probabilities)} probabilities, {len(truth)} label images"
        )
    base = _settings(config)
    values = checked_grid(grid, base)

    def score(settings: dict[str, Any]) -> list[float]:
        chosen = _with(base, settings)
        return [
            float(metric(labels, postprocess(prediction, chosen)[0]))
            for prediction, labels in zip(probabilities, truth, strict=True)
        ]

    return search_settings(score, {name: getattr(base, _FIELDS[name]) for name in values}, values, search)


def checked_grid(grid: Mapping[str, Iterable[Any]], config: Any) -> dict[str, tuple[Any, ...]]:
    """Checks the settings to try, as `tune` does, before anything expensive is done for them.

    Args:
        grid: Values to try by configuration name.
        config: Configuration that the search starts from, or a `PostprocessSettings`.

    Returns:
        Values to try by configuration name.

    Raises:
        ValueError: A setting is unknown, has no values or is out of range.
    """
    base = _settings(config)
    unknown = [name for name in grid if name not in _FIELDS]
    if unknown or not grid:
        raise ValueError(f"Settings to tune are {', '.join(_FIELDS)}. Received: {', '.join(unknown) or 'none'}")
    values = {name: tuple(choices) for name, choices in grid.items()}
    for name, choices in values.items():
        if not choices:
            raise ValueError(f"{name} has no values to try.")
        for choice in choices:
            # Fails now rather than after hours of search.
            _with(base, {name: choice})
    return values


def _settings(config: Any) -> PostprocessSettings:
    return config if isinstance(config, PostprocessSettings) else PostprocessSettings.from_config(config)


def _with(base: PostprocessSettings, settings: Mapping[str, Any]) -> PostprocessSettings:
    return replace(base, **{_FIELDS[name]: value for name, value in settings.items()})
