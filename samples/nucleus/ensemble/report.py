"""Report of an ensemble's cross-validation: accuracy of the predicted IoU, and scores compared with its members'."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nucleus.ensemble.examples import Example
from nucleus.ensemble.fitting import Fitted
from nucleus.evaluation.scores import Scores, overlaps, score, scores_by_group

ENSEMBLE, BEST_CHOICE = "ensemble", "best choice"
# Reported scores, those of table 5.1 of Vuola, 2019.
_COLUMNS = {"images": int, "mAP": float, "Dice": float, "precision": float, "recall": float, "oseg": int, "useg": int}


@dataclass(frozen=True)
class FitReport:
    """Tables of a cross-validation.

    Attributes:
        regression: Accuracy of the predicted IoU, of all masks and of each member's: masks (their number), R2,
            correlation (Pearson's), error (mean absolute).
        scores: Scores by group of images ("all", then each modality if there are several) and method (each member,
            "ensemble", and "best choice", the same rules with the true IoU, an upper bound): images, mAP, Dice,
            precision, recall, oseg and useg, as in table 5.1 of Vuola, 2019. Precision, recall, over- and
            under-segmentation are at an IoU of 0.7.
        picks: Number of the ensemble's nuclei that are masks of each member, and their share.
    """

    regression: pd.DataFrame
    scores: pd.DataFrame
    picks: pd.DataFrame

    def __str__(self) -> str:
        tables = {
            "Predicted IoU against the true one, out of fold:": self.regression,
            "Scores, the ensemble's out of fold:": self.scores,
            "Whose masks it picked:": self.picks,
        }
        return "\n\n".join(
            f"{title}\n{table.to_string(float_format='{:.3f}'.format)}" for title, table in tables.items()
        )

    def values(self) -> dict[str, list[dict]]:
        """Returns the tables as lists of rows, for JSON."""
        tables = {
            "regression": self.regression.rename_axis("masks_of"),
            "scores": self.scores,
            "picks": self.picks.rename_axis("member"),
        }
        return {name: _records(table.reset_index()) for name, table in tables.items()}


def report(examples: Sequence[Example], fitted: Fitted) -> FitReport:
    """Computes the tables of a fitted ensemble's cross-validation.

    Args:
        examples: Images that the ensemble was fitted to.
        fitted: Fitted ensemble with its out-of-fold predictions.

    Returns:
        The `FitReport`.
    """
    members = fitted.ensemble.members
    images, picked = [], np.zeros(len(members), np.int64)
    for example, quality, rules in zip(examples, fitted.quality, fitted.rules, strict=True):
        candidates = example.candidates
        chosen = rules.select(candidates, quality)
        picked += np.bincount(candidates.member[chosen.chosen], minlength=len(members))
        found = dict(zip(members, candidates.labels, strict=True))
        found |= {ENSEMBLE: chosen.labels, BEST_CHOICE: rules.select(candidates, example.iou).labels}
        images += [
            (example.modality, method, score(overlaps(example.truth, labels))) for method, labels in found.items()
        ]
    return FitReport(_regression(examples, fitted), _tabulate(images), share(dict(zip(members, picked, strict=True))))


def _records(table: pd.DataFrame) -> list[dict]:
    """Returns the rows of a table, with None for missing values, since JSON has no NaN."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def share(picks: dict[str, int]) -> pd.DataFrame:
    """Tabulates how often each member's mask was picked.

    Args:
        picks: Member -> number of nuclei that are its masks.

    Returns:
        One row for each member: nuclei, and part, their share of all in 0..1 (0 without nuclei).
    """
    counts = pd.Series(picks, dtype=np.int64)
    return pd.DataFrame({"nuclei": counts, "part": counts / max(counts.sum(), 1)})


def _tabulate(images: Sequence[tuple[str, str, Scores]]) -> pd.DataFrame:
    """Tabulates (modality, method, scores) of images."""
    methods = dict.fromkeys(method for _, method, _ in images)
    groups = {
        method: scores_by_group((modality, scores) for modality, name, scores in images if name == method)
        for method in methods
    }
    table = {
        (group, method): {name: scores[group].values()[name] for name in _COLUMNS}
        for group in next(iter(groups.values()))
        for method, scores in groups.items()
    }
    return pd.DataFrame.from_dict(table, orient="index").rename_axis(["group", "method"]).astype(_COLUMNS)


def _regression(examples: Sequence[Example], fitted: Fitted) -> pd.DataFrame:
    truth = np.concatenate([example.iou for example in examples])
    predicted = np.concatenate(fitted.quality)
    member = np.concatenate([example.candidates.member for example in examples])
    which = {"all": np.ones(len(member), bool)}
    which |= {name: member == number for number, name in enumerate(fitted.ensemble.members)}
    rows = {name: _compare(truth[chosen], predicted[chosen]) for name, chosen in which.items()}
    return pd.DataFrame.from_dict(rows, orient="index").astype({"masks": int})


def _compare(truth: np.ndarray, predicted: np.ndarray) -> dict[str, float | None]:
    """Compares predicted and true IoU; R2 and correlation are None without variation."""
    spread = len(truth) > 1 and truth.std() > 0
    both = spread and predicted.std() > 0
    return {
        "masks": len(truth),
        "R2": 1 - float(np.mean((truth - predicted) ** 2) / truth.var()) if spread else None,
        "correlation": float(np.corrcoef(truth, predicted)[0, 1]) if both else None,
        "error": float(np.abs(truth - predicted).mean()) if len(truth) else None,
    }
