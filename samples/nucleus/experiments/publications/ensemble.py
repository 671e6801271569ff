"""Fits the thesis' ensemble to models that were cross-validated, and scores it on images that none of them has seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.folds import Folds
from nucleus.ensemble.boosting import import_lightgbm
from nucleus.ensemble.examples import Example, Source, make_examples
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

# Part -> `Scores` of its images together; and as `picked_<model>` the share of the nuclei picked from each model.
Measured = tuple[dict[str, list[Sums]], dict[str, float]]


def require_ensembles() -> None:
    """Says before anything is trained that a library is missing.

    Raises:
        ValueError: LightGBM is missing.
    """
    import_lightgbm()


def fit_ensemble(
    dataset: NucleusDataset, members: Mapping[str, Sequence[Path]], folds: Folds
) -> tuple[list[Example], Fitted]:
    """Fits one ensemble to all folds, and one to all but each.

    Args:
        dataset: Prepared, with masks and without preprocessing.
        members: Model -> folders of what it found in each fold, when it had not been trained on it.
        folds: Which images are in which fold.

    Returns:
        The images with their predictions, and what came of them.

    Raises:
        nucleus.ensemble.fitting.NothingToLearnError: The members found nothing in all folds but one.
        ValueError: A prediction is missing.
    """
    examples = make_examples(dataset, _sources(members), _FEATURES)
    return examples, fit(examples, folds.ids, FIT_SETTINGS)


def measure_out_of_fold(examples: Sequence[Example], fitted: Fitted) -> Measured:
    """Scores each image by the ensemble that was fitted to the other folds, and adds the scores up.

    Args:
        examples: From `fit_ensemble`.
        fitted: Likewise.

    Returns:
        See `Measured`.
    """
    rows = zip(examples, fitted.quality, fitted.rules, strict=True)
    return _measure(
        fitted.ensemble.members,
        ((each.truth, each.modality, rules.combine(each.candidates, quality)) for each, quality, rules in rows),
    )


def measure_test(ensemble: Ensemble, dataset: NucleusDataset, members: Mapping[str, Sequence[Path]]) -> Measured:
    """Scores the ensemble that was fitted to all folds on other images.

    Args:
        ensemble: Of `fit_ensemble`.
        dataset: The images; prepared, with masks and without preprocessing.
        members: Model -> folders of what it found in them.

    Returns:
        See `Measured`.

    Raises:
        ValueError: A prediction is missing or does not fit its image.
    """
    sources = _sources(members)

    def combine(index: int) -> tuple[np.ndarray, str, Combination]:
        image, info = dataset.load_image(index), dataset.image_info[index]
        found = {name: source(info["id"], image) for name, source in sources.items()}
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


def _sources(members: Mapping[str, Sequence[Path]]) -> dict[str, Source]:
    return {name: PredictionFolder(paths, name).find for name, paths in members.items()}
