"""Gradient-boosted regression trees as plain arrays.

A fitted ensemble predicts without the library that grew it, and its file can be checked before use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Tree:
    """A binary tree with S splits and S + 1 leaves.

    A child of 0 or more is the index of a split, larger than its parent's; a negative child is the leaf `-1 - child`.

    Attributes:
        feature: int64 `[S]`, column that each split compares.
        threshold: float64 `[S]`; values up to it go left.
        left: int64 `[S]`, left child of each split.
        right: int64 `[S]`, right child of each split.
        value: float64 `[S + 1]`, value of each leaf.
    """

    feature: np.ndarray
    threshold: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Returns the value of each row's leaf, float64 `[N]`, for features float64 `[N, F]`."""
        rows = np.arange(len(features))
        node = np.full(len(features), 0 if len(self.feature) else -1)
        while len(rows):
            split = node[rows]
            rows, split = rows[split >= 0], split[split >= 0]
            goes_left = features[rows, self.feature[split]] <= self.threshold[split]
            node[rows] = np.where(goes_left, self.left[split], self.right[split])
        return self.value[-1 - node]

    def to_json(self) -> dict[str, list]:
        """Returns the tree as lists for JSON."""
        return {name: getattr(self, name).tolist() for name in COLUMNS}

    @classmethod
    def from_json(cls, content: Any, columns: int) -> Tree:
        """Makes a tree from the lists of `to_json`.

        Args:
            content: Content of a JSON file, which is checked.
            columns: Number of features.

        Raises:
            ValueError: The content is no tree over this number of features.
        """
        if not isinstance(content, Mapping) or set(content) != set(COLUMNS):
            raise ValueError(f"a tree has the lists {', '.join(COLUMNS)}")
        tree = cls(*(_numbers(content[name], name, dtype) for name, dtype in COLUMNS.items()))
        tree._check(columns)
        return tree

    def _check(self, columns: int) -> None:
        splits = len(self.feature)
        if any(len(given) != splits for given in (self.threshold, self.left, self.right)):
            raise ValueError("the splits of a tree differ in number")
        if len(self.value) != splits + 1:
            raise ValueError(f"a tree of {splits} splits has {splits + 1} leaves; found {len(self.value)}")
        if splits and not (self.feature.min() >= 0 and self.feature.max() < columns):
            raise ValueError(f"a split looks at a feature beyond the {columns} there are")
        children = np.concatenate([self.left, self.right])
        # Every leaf, and every split but the root, is one split's child; increasing indices exclude circles.
        expected = np.concatenate([np.arange(-splits - 1, 0), np.arange(1, splits)])
        parents = np.tile(np.arange(splits), 2)
        if splits and (
            not np.array_equal(np.sort(children), expected) or (children[children >= 0] <= parents[children >= 0]).any()
        ):
            raise ValueError("the splits and leaves of a tree do not hang together")


# Lists of a tree in a file, and their dtypes.
COLUMNS = {"feature": np.int64, "threshold": np.float64, "left": np.int64, "right": np.int64, "value": np.float64}


def predict_mean(models: Sequence[Sequence[Tree]], features: np.ndarray) -> np.ndarray:
    """Averages the predictions of models, each the sum of its trees.

    Args:
        models: Trees of each model.
        features: float64 `[N, F]`.

    Returns:
        float64 `[N]`.
    """
    sums = [sum((tree.predict(features) for tree in trees), np.zeros(len(features))) for trees in models]
    return np.mean(sums, axis=0)


def _numbers(values: Any, name: str, dtype: type) -> np.ndarray:
    kinds = (int,) if dtype is np.int64 else (int, float)
    if not isinstance(values, list) or any(type(value) not in kinds for value in values):
        raise ValueError(f"{name} of a tree must be a list of {'whole ' if dtype is np.int64 else ''}numbers")
    try:
        numbers = np.array(values, dtype)
    except OverflowError as error:
        raise ValueError(f"{name} of a tree holds a number that is too large") from error
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} of a tree holds a number that is not finite")
    return numbers
