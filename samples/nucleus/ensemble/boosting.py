"""Gradient boosting with LightGBM, which only fitting needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from nucleus.ensemble.trees import COLUMNS, Tree


@dataclass(frozen=True)
class BoostingSettings:
    """LightGBM parameters of one model.

    Attributes:
        learning_rate: Shrinkage of each tree's values, above 0.
        num_leaves: Largest number of leaves of a tree.
        feature_fraction: Share of the features, 0..1, that are drawn for each tree.
        rounds: Number of trees.
    """

    learning_rate: float
    num_leaves: int
    feature_fraction: float
    rounds: int


# Models that are averaged. Vuola, 2019, section 4.3, varies the first three parameters without naming values; these are
# ours.
SETTINGS = (
    BoostingSettings(0.1, 7, 0.6, 80),
    BoostingSettings(0.1, 15, 0.9, 60),
    BoostingSettings(0.05, 7, 0.9, 160),
    BoostingSettings(0.05, 15, 0.6, 120),
    BoostingSettings(0.03, 31, 0.4, 180),
)


def grow(
    features: np.ndarray,
    targets: np.ndarray,
    settings: Sequence[BoostingSettings] = SETTINGS,
    seed: int = 0,
    threads: int = 0,
) -> list[list[Tree]]:
    """Fits one model for each of several settings, by least squares.

    Args:
        features: float64 `[N, F]`, finite.
        targets: float64 `[N]`.
        settings: Settings of each model.
        seed: Seed of the features drawn for each tree.
        threads: Number of threads; 0 for the number of cores. The result does not depend on it.

    Returns:
        The trees of each model.

    Raises:
        ValueError: LightGBM is not installed or cannot be loaded.
    """
    lightgbm = import_lightgbm()
    data = lightgbm.Dataset(features, targets, free_raw_data=False)
    models = []
    for number, one in enumerate(settings):
        parameters = {
            "objective": "regression",
            "learning_rate": one.learning_rate,
            "num_leaves": one.num_leaves,
            "feature_fraction": one.feature_fraction,
            "lambda_l2": 1.0,
            "seed": seed + number,
            "num_threads": threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
        }
        booster = lightgbm.train(parameters, data, num_boost_round=one.rounds)
        models.append([_to_tree(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]])
    return models


def import_lightgbm() -> ModuleType:
    """Imports LightGBM.

    Raises:
        ValueError: LightGBM is not installed or cannot be loaded; the message says how to install it.
    """
    try:
        import lightgbm
    except ModuleNotFoundError as error:
        raise ValueError(
            f'Fitting an ensemble needs LightGBM: pip install "keras-nucleus[ensemble]", or lightgbm ({error}).'
        ) from error
    except OSError as error:
        raise ValueError(
            "LightGBM cannot be loaded; on Linux it needs OpenMP's library, such as Debian's package libgomp1 "
            f"({error})."
        ) from error
    return lightgbm


def _to_tree(root: dict[str, Any]) -> Tree:
    """Converts LightGBM's nested splits to arrays; their numbers exceed their parents', as in `Tree`."""
    splits: dict[int, tuple[int, float, int, int]] = {}
    values: dict[int, float] = {}
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if "split_index" not in node:
            values[node.get("leaf_index", 0)] = node["leaf_value"]
            continue
        children = [node["left_child"], node["right_child"]]
        numbers = [child["split_index"] if "split_index" in child else -1 - child["leaf_index"] for child in children]
        splits[node["split_index"]] = (node["split_feature"], node["threshold"], *numbers)
        waiting += children
    columns = list(zip(*(splits[number] for number in range(len(splits))), strict=True)) or [()] * 4
    leaves = [values[number] for number in range(len(values))]
    return Tree(*map(np.array, (*columns, leaves), COLUMNS.values()))
