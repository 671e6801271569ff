"""Evaluation: scores of predictions against ground truth, and the report.

    from nucleus.evaluation import evaluate, evaluate_fully

`nucleus.evaluation.scores` has each score as a function of two label images, and needs no model.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Evaluation", "evaluate", "evaluate_fully"]


def __getattr__(name: str) -> Any:
    # Imported when used: models score themselves, with `scores`, and are imported by what is offered here.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nucleus.evaluation import evaluation

    return getattr(evaluation, name)
