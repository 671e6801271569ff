"""Ensemble of Vuola's thesis: fitting to cross-validated models, and scoring on images that none of them has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.folds import Folds
from nucleus.ensemble.ensemble_model import EnsembleModel
from nucleus.ensemble.fitted import Ensemble
from nucleus.ensemble.running import EnsemblePredictions
from nucleus.evaluation.scores.sums import Sums
from nucleus.experiments.publications.scoring import modality_parts, sum_scores
from nucleus.models.registry import make_config
from nucleus.prediction.folders import PredictionFolder

# Vuola, 2019, section 4.3: structural properties alone as features; suppression and least predicted IoU at 0.3, and
# nothing that would drop what better masks leave of one.
_PRESET = "vuola"

# Part -> summed `Scores` of its images; and as `picked_<model>` the share of the nuclei picked from each model, 0..1.
Measured = tuple[dict[str, list[Sums]], dict[str, float]]


def fit_ensemble(dataset: NucleusDataset, members: Mapping[str, Sequence[Path]], folds: Folds) -> EnsembleModel:
    """Fits one ensemble to all folds, and one to all but each.

    Args:
        dataset: Prepared, with masks and without preprocessing.
        members: Model -> folders of its predictions for each fold, by the network that was not trained on this fold.
        folds: Folds of the images.

    Returns:
        The fitted ensemble.

    Raises:
        nucleus.ensemble.fitting.NothingToLearnError: The members found nothing in all folds but one.
        ValueError: A prediction is missing.
    """
    config = make_config("inference", _PRESET, model=EnsembleModel.kind)
    model = EnsembleModel(_folders(members), config=config, folds=folds)
    model.fit(dataset, None)
    return model


def score_out_of_fold(model: EnsembleModel, dataset: NucleusDataset) -> Measured:
    """Scores each image with the ensemble that was fitted to the other folds.

    Args:
        model: Ensemble returned by `fit_ensemble`.
        dataset: Images that it was fitted to.

    Returns:
        Summed scores and shares; see `Measured`.
    """
    return _measure(EnsemblePredictions(model, out_of_fold=True), dataset)


def score_test(ensemble: Ensemble, dataset: NucleusDataset, members: Mapping[str, Sequence[Path]]) -> Measured:
    """Scores the ensemble that was fitted to all folds on a test set.

    Args:
        ensemble: The fitted ensemble.
        dataset: Test images; prepared, with masks and without preprocessing.
        members: Model -> folders of its predictions for the test images.

    Returns:
        Summed scores and shares; see `Measured`.

    Raises:
        ValueError: A prediction is missing or does not fit its image.
    """
    return _measure(EnsemblePredictions(EnsembleModel(_folders(members), ensemble)), dataset)


def _measure(predictions: EnsemblePredictions, dataset: NucleusDataset) -> Measured:
    parts = sum_scores(predictions, dataset, modality_parts)
    return parts, {f"picked_{row.Index}": row.part for row in predictions.shares().itertuples()}


def _folders(members: Mapping[str, Sequence[Path]]) -> dict[str, PredictionFolder]:
    return {name: PredictionFolder(paths, name) for name, paths in members.items()}
