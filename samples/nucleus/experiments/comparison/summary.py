"""Facts that a comparison's scores depend on, for its JSON file and for the notes below its tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from types import FunctionType
from typing import Any

from nucleus.evaluation.report.tables import count_of
from nucleus.experiments.comparison.members import Member
from nucleus.experiments.comparison.plan import ENSEMBLE, PLAIN, ComparisonPlan
from nucleus.experiments.comparison.steps import StepRecord, environment
from nucleus.models.classical.presets import CHOSEN_ON
from nucleus.models.network import RANDOM
from nucleus.models.registry import make_config


def about(plan: ComparisonPlan, modalities: Sequence[str], records: Sequence[StepRecord]) -> dict[str, Any]:
    """Returns everything that a comparison's scores depend on, as JSON-compatible values.

    Args:
        plan: Plan of the comparison.
        modalities: Modality of every image.
        records: Records of all steps.
    """
    return {
        **plan.about,
        "images": len(modalities),
        "modalities": dict(sorted(Counter(modalities).items())),
        "folds": [len(fold) for fold in plan.folds.ids],
        "seed": plan.seed,
        "test_time_augmentation": plan.views,
        "detection_IoU": plan.iou,
        "members": {
            member.name: {**member.describe(), "effective_settings": _effective(member)} for member in plan.members
        },
        "steps": [asdict(record) for record in records],
        "seconds": round(sum(record.seconds for record in records), 1),
        "environment": environment(),
    }


def title(plan: ComparisonPlan) -> str:
    """Returns a title: data set, subset and number of folds.

    Args:
        plan: Plan of the comparison.
    """
    where = " of ".join(str(plan.about[key]) for key in ("subset", "dataset") if key in plan.about)
    return f"{where or 'images'}, out of fold, {len(plan.folds.ids)} folds"


def notes(plan: ComparisonPlan, missing: Sequence[str]) -> list[str]:
    """Returns notes on the rows of the table, one line each.

    Args:
        plan: Plan of the comparison.
        missing: Reasons for missing rows.
    """
    lines = [f"{title(plan)}: every image is predicted by models trained on the other folds."]
    if plan.about.get("quick"):
        lines.append("A quick run: tiny networks after a few steps, whose scores say nothing.")
    lines += [f"{member.name}: {_summary(member)}" for member in plan.members]
    if plan.views != PLAIN:
        lines.append(f"+tta: test-time augmentation, {plan.views}.")
    if plan.combined:
        names = " and ".join(member.name for member in plan.combined)
        lines.append(f"{ENSEMBLE}: of {names}, chosen by trees fitted to the other folds.")
    return [*lines, *missing]


def _effective(member: Member) -> dict[str, str]:
    """Returns every setting of a member's training, or of its prediction if it is not trained."""
    recipe = member.recipe()
    mode = "training" if member.learns else "inference"
    values = make_config(mode, recipe.preset, recipe.settings, recipe.model).to_dict()
    return {
        name: value.__qualname__ if isinstance(value, FunctionType) else str(value) for name, value in values.items()
    }


def _summary(member: Member) -> str:
    about = f"{member.model} {member.preset}" + "".join(f", {name}={value}" for name, value in member.settings.items())
    if not member.learns:
        return (
            f"{about}, not trained. Its preset's settings were chosen by tuning on {CHOSEN_ON}: where these are among "
            "the images of this data set, they are scored all the same, and its scores are not quite out of fold."
        )
    start = "random weights" if member.file is None and member.weights == RANDOM else member.weights
    epochs = count_of(member.epochs, "epoch") if member.epochs else "the epochs of its STAGES"
    return f"{about}, from {start}, {epochs}."
