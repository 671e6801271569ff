"""Logistic regression in NumPy: fitting by Newton's method, prediction, and its place in a JSON file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Newton's method ends after so many steps, or when no coefficient changes by more than the tolerance.
_STEPS, _TOLERANCE = 50, 1e-6
# Linear predictors are cut at this, so that no probability is exactly 0 or 1.
_STEEPEST = 30.0


@dataclass(frozen=True)
class Logistic:
    """Logistic regression: P(y = 1 | x) = 1 / (1 + exp(-(bias + x w))).

    Attributes:
        names: Name of each feature.
        weights: float64 `[F]`, weight of each feature.
        bias: Value of the linear predictor where all features are 0.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    bias: float

    def logit(self, features: np.ndarray) -> np.ndarray:
        """Returns the linear predictor, the logarithm of the odds.

        Args:
            features: float `[..., F]`.

        Returns:
            float64 `[...]`.
        """
        return features @ self.weights + self.bias

    def probability(self, features: np.ndarray) -> np.ndarray:
        """Returns P(y = 1), float64 `[...]` in 0..1, of features `[..., F]`."""
        return _sigmoid(self.logit(features))

    def to_json(self) -> dict[str, Any]:
        """Returns the regression as JSON can hold it."""
        return {"bias": self.bias, "weights": dict(zip(self.names, self.weights.tolist(), strict=True))}

    @classmethod
    def from_json(cls, content: Mapping[str, Any], names: Sequence[str]) -> Logistic:
        """Returns the regression of what `to_json` returned.

        Args:
            content: The JSON object.
            names: Names of the features that the caller computes, in order.

        Raises:
            ValueError: The features are others, or a value is not a finite number.
        """
        if set(content["weights"]) != set(names):
            raise ValueError(f"expected weights of {', '.join(names)}; received {', '.join(content['weights'])}")
        values = [content["bias"], *(content["weights"][name] for name in names)]
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
            raise ValueError("the weights of a logistic regression must be numbers")
        if not np.isfinite(values).all():
            raise ValueError("the weights of a logistic regression must be finite")
        return cls(tuple(names), np.array(values[1:], np.float64), float(values[0]))


def fit_logistic(
    names: Sequence[str],
    features: np.ndarray,
    targets: np.ndarray,
    sample_weights: np.ndarray | None = None,
    ridge: float = 1.0,
) -> Logistic:
    """Fits a logistic regression with a ridge penalty on the weights of the standardised features.

    Newton's method (iteratively reweighted least squares); Hastie, Tibshirani and Friedman, *The Elements of
    Statistical Learning*, 2009, section 4.4.1.

    Args:
        names: Name of each feature.
        features: float `[N, F]`. A constant feature gets the weight 0.
        targets: float `[N]` in 0..1; a value between is a share of positives.
        sample_weights: float `[N]`, 0 or more; by default 1 each.
        ridge: Penalty: half of this times the squared norm of the weights, against the sum of the samples' losses.

    Raises:
        ValueError: There is no sample.

    Examples:
        >>> x = np.arange(-10, 11)[:, None] / 5
        >>> model = fit_logistic(["x"], x, (x[:, 0] > 0.5).astype(float))
        >>> (model.probability(np.array([[-2.0], [2.0]])) > 0.5).tolist()
        [False, True]
    """
    if not len(targets):
        raise ValueError("there is no sample to fit a logistic regression to")
    features = np.asarray(features, np.float64)
    weights = np.ones(len(targets)) if sample_weights is None else np.asarray(sample_weights, np.float64)
    mean = np.average(features, axis=0, weights=weights)
    spread = np.sqrt(np.average((features - mean) ** 2, axis=0, weights=weights))
    constant = spread < 1e-9
    standard = np.column_stack([(features - mean) / np.where(constant, 1.0, spread), np.ones(len(features))])
    penalty = np.diag([ridge] * features.shape[1] + [1e-6])
    found = np.zeros(standard.shape[1])
    for _ in range(_STEPS):
        predicted = _sigmoid(standard @ found)
        gradient = standard.T @ (weights * (predicted - targets)) + penalty @ found
        curvature = (standard * (weights * predicted * (1 - predicted))[:, None]).T @ standard + penalty
        step = np.linalg.solve(curvature, gradient)
        found -= step
        if np.abs(step).max() < _TOLERANCE:
            break
    slopes = np.where(constant, 0.0, found[:-1] / np.where(constant, 1.0, spread))
    return Logistic(tuple(names), slopes, float(found[-1] - slopes @ mean))


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(values, -_STEEPEST, _STEEPEST)))
