"""Scores an ensemble of models that were cross-validated, each image by what has seen neither it nor its fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from nucleus.dataset import NucleusDataset
from nucleus.ensemble.boosting import import_lightgbm
from nucleus.ensemble.examples import Source, make_examples
from nucleus.ensemble.fitting import FitSettings, fit
from nucleus.ensemble.model import Rules
from nucleus.ensemble.predictions import PredictionFolders
from nucleus.folds import Folds
from nucleus.metrics import overlaps, score
from nucleus.recipes.measure import add, modality_parts
from nucleus.scores.sums import Sums

# Vuola, 2019, section 4.3: structural properties alone as features; suppression and least predicted IoU at 0.3.
_FEATURES = ("shape",)
_RULES = Rules(threshold=0.3, nms_threshold=0.3)


def require_ensembles() -> None:
    """Says before anything is trained that a library is missing.

    Raises:
        ValueError: LightGBM is missing.
    """
    import_lightgbm()


def measure_ensemble(
    dataset: NucleusDataset, members: Mapping[str, Sequence[Path]], folds: Folds
) -> tuple[dict[str, list[Sums]], dict[str, float]]:
    """Fits ensembles to all folds but one, scores each on that one, and adds the scores up.

    Args:
        dataset: Prepared, with masks and without preprocessing.
        members: Model -> folders of what it found in each fold, when it had not been trained on it.
        folds: Which images are in which fold.

    Returns:
        Part -> `Scores` of its images together; and as `picked_<model>` the share of the nuclei that were picked from
        each model.

    Raises:
        ValueError: A prediction is missing, or there is nothing to learn from.
    """
    sources = {name: _source(PredictionFolders(paths)) for name, paths in members.items()}
    examples = make_examples(dataset, sources, _FEATURES)
    fitted = fit(examples, folds.ids, FitSettings(groups=_FEATURES, rules=_RULES, choose_threshold=False))
    totals: dict[str, list[Sums]] = {}
    picks: Counter[str] = Counter()
    for example, quality, rules in zip(examples, fitted.quality, fitted.rules, strict=True):
        combination = rules.combine(example.candidates, quality)
        picks.update(combination.picked)
        measured = [score(overlaps(example.truth, combination.labels))]
        for part in modality_parts({"modality": example.modality}):
            totals[part] = add(totals.get(part), measured)
    count = max(1, picks.total())
    return totals, {f"picked_{name}": picks[name] / count for name in members}


def _source(found: PredictionFolders) -> Source:
    return lambda image_id, _: found.find(image_id)
