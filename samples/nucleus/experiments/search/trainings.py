"""Search for the settings of trainings on a data set: `nucleus search` for Python users."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from nucleus.datasets.division import VALIDATION, warn_if_seen
from nucleus.datasets.source import ImageSource
from nucleus.experiments.search.objective import TrainingObjective, searchable
from nucleus.experiments.search.space import SearchTrial, parse_dimension
from nucleus.experiments.search.studies import SearchPlan, search
from nucleus.models.network import RANDOM
from nucleus.models.registry import make_config
from nucleus.models.weights import choose_recipe, find_recipe, starting_weights
from nucleus.training.recipes import training_recipe


@dataclass(frozen=True)
class SearchResult:
    """Trials of a search.

    Attributes:
        trials: All trials, the best first and failed ones last.
        best: Settings of the best trial, and the stages that it was trained with where a setting searched changes them.
    """

    trials: list[SearchTrial]
    best: Mapping[str, Any]


def search_trainings(
    source: ImageSource,
    tried: Sequence[tuple[str, str]],
    output: str | os.PathLike,
    *,
    weights: str = RANDOM,
    model: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Any] | None = None,
    steps: int | None = None,
    epochs: int = 20,
    subset: str = "train",
    val_subset: str = "val",
    trials: int = 20,
    narrow: int = 0,
    seed: int = 1,
    model_dir: str | os.PathLike = "logs",
) -> SearchResult:
    """Searches for settings by short trainings, and resumes an earlier search in the same folder.

    Args:
        source: The data set.
        tried: (name of a setting, its values as text) of every setting to search; see
            `nucleus.experiments.search.space.parse_dimension`.
        output: Folder of the search.
        weights: Initial weights of every training: "none", "coco", "imagenet", "shipped" or a file.
        model: Kind of network; by default that of weights or preset.
        preset: Name of a preset; by default the weights' own settings.
        settings: Attribute name -> value that is not searched.
        steps: Training batches of an epoch; by default the preset's.
        epochs: Epochs of every training.
        subset: Images to train on.
        val_subset: Images to score on.
        trials: Number of random trials.
        narrow: Number of further trials in the most promising part of the space.
        seed: Seed of the random trials.
        model_dir: Folder of the training runs, in which "last" weights would be looked for.

    Returns:
        The trials and the best settings.

    Raises:
        ValueError: Weights, settings or images cannot be used, a setting is given twice, the folder holds another
            search, or every trial failed.
        SearchStoppedError: A file, an image, a download or memory is missing.
    """
    names = [name for name, _ in tried]
    if len(set(names)) != len(names):
        raise ValueError(f"{max(names, key=names.count)} is given twice among the settings to try.")
    asked = dict(settings or {})
    path = starting_weights(weights, model_dir, model, asked.get("NAME"))
    base = choose_recipe(None if path is None else find_recipe(path), model, preset)
    recipe = searchable(training_recipe(base, weights, asked, steps), names)
    config = make_config("training", recipe.preset, recipe.settings, recipe.model)
    space = tuple(parse_dimension(config, name, text) for name, text in tried)
    source = replace(source, planes=source.planes.with_default(config.planes()))
    train, val = source.load(subset), source.load(val_subset)
    print(f"Training on {source.describe(subset, train.num_images)}")
    print(f"Scoring on {source.describe(val_subset, val.num_images)}")
    if path is not None:
        warn_if_seen(path, [info["id"] for info in val.image_info], VALIDATION)
    about = {"recipe": asdict(recipe), "weights": weights, "epochs": epochs}
    about |= {"dataset": str(source.path), "train": subset, "val": val_subset, **source.planes.described()}
    objective = TrainingObjective(recipe, weights, path, epochs, source, subset, val_subset)
    done = search(SearchPlan(space, trials, narrow, seed, about), objective, Path(output))
    if done[0].value is None:
        raise ValueError(f"Every trial failed, the last with: {done[-1].error}")
    stages = {name: recipe.settings[name] for name in ("STAGES",) if name in recipe.settings}
    return SearchResult(done, {**stages, **done[0].settings})
