"""Ensemble of Vuola's thesis: fitting to cross-validated models, and scoring on images that none of them has seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.folds import Folds
from nucleus.ensemble.examples import Example, Finder, make_examples
from nucleus.ensemble.fitting import FitSettings, Fitted, fit
from nucleus.ensemble.model import Combination, Ensemble, Rules
from nucleus.evaluation.scores import overlaps, score
from nucleus.evaluation.scores.sums import Sums
from nucleus.experiments.publications.measure import add, modality_parts
from nucleus.prediction.folders import PredictionFolder

# Vuola, 2019, section 4.3: structural properties alone as features; suppression and least predicted IoU at 0.3, and
# nothing that would drop what better masks leave of one.
_FEATURES = ("shape",)
_RULES = Rules(threshold=0.3, nms_threshold=0.3, least_visible=0.0)
FIT_SETTINGS = FitSettings(groups=_FEATURES, rules=_RULES, choose_threshold=False)

# Part -> summed `Scores` of its images; and as `picked_<model>` the share of the nuclei picked from each model, 0..1.
Measured = tuple[dict[str, list[Sums]], dict[str, float]]


def fit_ensemble(
    dataset: NucleusDataset, members: Mapping[str, Sequence[Path]], folds: Folds
) -> tuple[list[Example], Fitted]:
    """Fits one ensemble to all folds, and one to all but each.

    Args:
        dataset: Prepared, with masks and without preprocessing.
        members: Model -> folders of its predictions for each fold, by the network that was not trained on this fold.
        folds: Folds of the images.

    Returns:
        The images with their predictions, and the fitted ensembles.

    Raises:
        nucleus.ensemble.fitting.NothingToLearnError: The members found nothing in all folds but one.
        ValueError: A prediction is missing.
    """
    examples = make_examples(dataset, _finders(members), _FEATURES)
    return examples, fit(examples, folds.ids, FIT_SETTINGS)


def measure_out_of_fold(examples: Sequence[Example], fitted: Fitted) -> Measured:
    """Scores each image with the ensemble that was fitted to the other folds.

    Args:
        examples: Images with predictions, as returned by `fit_ensemble`.
        fitted: Ensembles, as returned by `fit_ensemble`.

    Returns:
        Summed scores and shares; see `Measured`.
    """
    rows = zip(examples, fitted.quality, fitted.rules, strict=True)
    return _measure(
        fitted.ensemble.members,
        ((each.truth, each.modality, rules.combine(each.candidates, quality)) for each, quality, rules in rows),
    )


def measure_test(ensemble: Ensemble, dataset: NucleusDataset, members: Mapping[str, Sequence[Path]]) -> Measured:
    """Scores the ensemble that was fitted to all folds on a test set.

    Args:
        ensemble: Ensemble returned by `fit_ensemble`.
        dataset: Test images; prepared, with masks and without preprocessing.
        members: Model -> folders of its predictions for the test images.

    Returns:
        Summed scores and shares; see `Measured`.

    Raises:
        ValueError: A prediction is missing or does not fit its image.
    """
    finders = _finders(members)

    def combine(index: int) -> tuple[np.ndarray, str, Combination]:
        image, info = dataset.load_image(index), dataset.image_info[index]
        found = {name: find(info["id"], image) for name, find in finders.items()}
        return dataset.load_labels(index)[0], info["modality"], ensemble.combine(image, found)

    return _measure(ensemble.members, map(combine, dataset.image_ids))


def _measure(members: Sequence[str], found: Iterable[tuple[np.ndarray, str, Combination]]) -> Measured:
    """Scores (truth, modality, combination) of each image."""
    totals: dict[str, list[Sums]] = {}
    picks: Counter[str] = Counter()
    for truth, modality, combination in found:
        picks.update(combination.picked)
        measured = [score(overlaps(truth, combination.labels))]
        for part in modality_parts({"modality": modality}):
            totals[part] = add(totals.get(part), measured)
    count = max(1, picks.total())
    return totals, {f"picked_{name}": picks[name] / count for name in members}


def _finders(members: Mapping[str, Sequence[Path]]) -> dict[str, Finder]:
    return {name: PredictionFolder(paths, name).find for name, paths in members.items()}
