"""True positives, false positives and false negatives at IoU thresholds, and the scores made of these counts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_bipartite_matching

from nucleus.evaluation.scores.overlaps import Overlaps
from nucleus.evaluation.scores.sums import Sums, quotient

# IoU thresholds of the 2018 Data Science Bowl, n / 100 correctly rounded.
THRESHOLDS = np.arange(50, 100, 5) / 100
# IoU of precision, recall, over- and under-segmentation: "Nuclei segmentation using computer vision", Vuola, 2019,
# section 4.4.4.
DETECTION_IOU = 0.7


@dataclass(frozen=True)
class Matches(Sums):
    """Matched and unmatched instances of one image or, added up, of many, at one or more IoU thresholds.

    Every score is 1 where neither ground truth nor prediction has instances, and 0 where only one of them has.

    Attributes:
        true_positives: int64 `[K]`, matched pairs at each threshold.
        false_positives: int64 `[K]`, predicted instances without a match.
        false_negatives: int64 `[K]`, true instances without a match.
    """

    true_positives: np.ndarray
    false_positives: np.ndarray
    false_negatives: np.ndarray

    @property
    def average_precision(self) -> np.ndarray:
        """TP / (TP + FP + FN), float64 `[K]`, which the 2018 Data Science Bowl averages over thresholds."""
        return quotient(self.true_positives, self._predicted + self.false_negatives, self._perfect)

    @property
    def precision(self) -> np.ndarray:
        """TP / (TP + FP), float64 `[K]`."""
        return quotient(self.true_positives, self._predicted, self._perfect)

    @property
    def recall(self) -> np.ndarray:
        """TP / (TP + FN), float64 `[K]`."""
        return quotient(self.true_positives, self._true, self._perfect)

    @property
    def f1(self) -> np.ndarray:
        """2 TP / (2 TP + FP + FN), float64 `[K]`: the harmonic mean of precision and recall."""
        return quotient(2 * self.true_positives, self._predicted + self._true, self._perfect)

    @property
    def _predicted(self) -> np.ndarray:
        return self.true_positives + self.false_positives

    @property
    def _true(self) -> np.ndarray:
        return self.true_positives + self.false_negatives

    @property
    def _perfect(self) -> np.ndarray:
        """1.0 where neither side has instances, otherwise 0.0: the value of 0 / 0."""
        return (self._predicted + self._true == 0).astype(np.float64)


def require_unique(threshold: float) -> None:
    """Raises ValueError unless an IoU threshold is from 0.5, above which matches are unique, to 1."""
    if not 0.5 <= threshold <= 1:
        raise ValueError(f"Below an IoU of 0.5 matches are not unique. Received: threshold={threshold}")


def count_matches(pair: Overlaps, thresholds: float | Sequence[float] | np.ndarray = THRESHOLDS) -> Matches:
    """Counts matched and unmatched instances at each IoU threshold.

    A pair can match if its IoU is greater than the threshold, as in the 2018 Data Science Bowl. At thresholds of 0.5 or
    more an instance has at most one such partner, since label images are disjoint. At lower thresholds as many
    instances as possible are matched one to one.

    Args:
        pair: Overlaps of ground truth and prediction.
        thresholds: IoU threshold, or `[K]` of them, in 0..1.

    Returns:
        The `Matches` of this image.

    Raises:
        ValueError: A threshold is not in 0..1.
    """
    thresholds = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    if not ((thresholds >= 0) & (thresholds <= 1)).all():
        raise ValueError(f"IoU thresholds lie in 0..1. Received: thresholds={thresholds}")
    above = pair.iou[:, None] > thresholds
    matched = above.sum(axis=0)
    for index in np.flatnonzero(thresholds < 0.5):
        matched[index] = _largest_matching(pair, above[:, index])
    return Matches(
        true_positives=matched,
        false_positives=len(pair.predicted_ids) - matched,
        false_negatives=len(pair.truth_ids) - matched,
    )


def average_precision_curve(
    pairs: Iterable[Overlaps], thresholds: Sequence[float] | np.ndarray = THRESHOLDS
) -> pd.DataFrame:
    """Computes average precision against the IoU threshold: figure 5.2 of Vuola, 2019.

    Args:
        pairs: Overlaps of each image of a data set, in any iterable.
        thresholds: IoU thresholds, `[K]` in 0..1.

    Returns:
        One row for each threshold: `threshold` and `AP`, the mean over images of TP / (TP + FP + FN).

    Raises:
        ValueError: There is no image, or a threshold is not in 0..1.
    """
    values = [count_matches(pair, thresholds).average_precision for pair in pairs]
    if not values:
        raise ValueError("There is no image to score.")
    return pd.DataFrame({"threshold": np.asarray(thresholds, np.float64), "AP": np.mean(values, axis=0)})


def _largest_matching(pair: Overlaps, allowed: np.ndarray) -> int:
    rows, columns = pair.truth_index[allowed], pair.predicted_index[allowed]
    shape = (len(pair.truth_ids), len(pair.predicted_ids))
    graph = csr_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=shape)
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
