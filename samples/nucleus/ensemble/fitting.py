"""Fitting of an ensemble, with a cross-validation of its gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace

import numpy as np
from tqdm import tqdm

from nucleus.ensemble.boosting import SETTINGS, BoostingSettings, grow
from nucleus.ensemble.config import EnsembleConfig
from nucleus.ensemble.examples import Example
from nucleus.ensemble.features import GROUPS
from nucleus.ensemble.fitted import Ensemble, Rules
from nucleus.ensemble.trees import Tree, predict_mean
from nucleus.evaluation.scores import THRESHOLDS, Matches, overlaps

# Thresholds of the predicted IoU that are tried.
TRIED_THRESHOLDS = np.arange(0, 85, 5) / 100


class NothingToLearnError(ValueError):
    """Error of fitting to images in which the members found no nucleus."""


@dataclass(frozen=True)
class Fitted:
    """A fitted ensemble with its out-of-fold predictions.

    Attributes:
        ensemble: Ensemble fitted to all images.
        quality: Out-of-fold predicted IoU of each image's masks, float64 `[N]`.
        rules: Out-of-fold rules of each image, with the threshold chosen on the other folds.
        folds: Number of each image's fold, from 0 on.
    """

    ensemble: Ensemble
    quality: list[np.ndarray]
    rules: list[Rules]
    folds: list[int]


@dataclass(frozen=True)
class FitSettings:
    """Settings of fitting an ensemble.

    Attributes:
        groups: Groups of features that the examples have.
        rules: Rules for choosing masks.
        choose_threshold: True to replace the rules' threshold by that of TRIED_THRESHOLDS with the best mAP.
        boosting: Settings of the models that are averaged.
        seed: Seed of the random choices of the trees.
        threads: Number of LightGBM's threads; the result does not depend on it.
    """

    groups: tuple[str, ...] = tuple(GROUPS)
    rules: Rules = field(default_factory=Rules)
    choose_threshold: bool = True
    boosting: tuple[BoostingSettings, ...] = SETTINGS
    seed: int = 0
    threads: int = 1

    @classmethod
    def from_config(cls, config: EnsembleConfig) -> FitSettings:
        """Returns the settings of a fit that a configuration asks for.

        Args:
            config: Settings of the ensemble.
        """
        choose = config.THRESHOLD is None
        return cls(config.groups, config.rules(), choose_threshold=choose, seed=config.SEED, threads=config.THREADS)


def fit_ensemble(
    examples: Sequence[Example],
    folds: Sequence[Sequence[str]],
    settings: FitSettings | None = None,
) -> Fitted:
    """Fits an ensemble to all images, and one to the other folds of each fold for cross-validation.

    The out-of-fold results of an image are those of an ensemble fitted without its fold: the trees were grown on the
    other folds, and the threshold was chosen on these, by trees grown without each image's own fold.

    Args:
        examples: Images with known nuclei, from `make_examples`.
        folds: Image ids of each fold, at least three folds, or two with a given threshold. Other ids are ignored.
        settings: Settings of fitting; by default `FitSettings()`.

    Returns:
        The `Fitted`.

    Raises:
        NothingToLearnError: The images of some folds have no mask.
        ValueError: The folds do not divide the images, or LightGBM is missing.
    """
    settings = settings or FitSettings()
    fold_of = _assign(examples, folds)
    count = len(folds)
    if count < (3 if settings.choose_threshold else 2):
        raise ValueError(f"Expected three folds, or two with a given threshold. Received: {count}")
    # Fits without each fold, without each pair of folds, and to all folds.
    steps = 1 + count + (math.comb(count, 2) if settings.choose_threshold else 0)
    with tqdm(total=steps, desc="fit", unit="fit") as bar:
        grower = _Grower(examples, fold_of, settings, bar)
        quality = [grower.predict(index, {fold}) for index, fold in enumerate(fold_of)]
        rules, rules_of_folds = settings.rules, [settings.rules] * count
        if settings.choose_threshold:
            rules = best_rules(examples, quality, settings.rules)
            rules_of_folds = [_rules_without(fold, grower, examples, fold_of, settings.rules) for fold in range(count)]
        models = grower.models(frozenset())
    ensemble = Ensemble(
        members=examples[0].candidates.members,
        groups=tuple(group for group in GROUPS if group in settings.groups),
        models=tuple(tuple(trees) for trees in models),
        rules=rules,
        about={
            "images": len(examples),
            "masks": sum(len(example.iou) for example in examples),
            "folds": count,
            "seed": settings.seed,
            "boosting": [asdict(one) for one in settings.boosting],
        },
    )
    return Fitted(ensemble, quality, [rules_of_folds[fold] for fold in fold_of], fold_of)


def best_rules(examples: Sequence[Example], quality: Sequence[np.ndarray], rules: Rules) -> Rules:
    """Chooses the threshold with the best mAP of the 2018 Data Science Bowl.

    Args:
        examples: Images with known nuclei.
        quality: Predicted IoU of each image's masks, float64 `[N]`.
        rules: Rules whose threshold is replaced.

    Returns:
        The rules with the best of TRIED_THRESHOLDS; ties go to the one nearest to the threshold of `rules`.
    """
    curves = [_precision_curve(*pair, rules) for pair in zip(examples, quality, strict=True)]
    precision = np.mean(curves, axis=0)
    best = TRIED_THRESHOLDS[np.isclose(precision, precision.max(), rtol=0, atol=1e-9)]
    return replace(rules, threshold=float(best[np.argmin(np.abs(best - rules.threshold))]))


def _rules_without(
    held_out: int, grower: _Grower, examples: Sequence[Example], fold_of: Sequence[int], rules: Rules
) -> Rules:
    """Chooses the rules on all folds but one, by trees grown without that fold and without each image's own."""
    rest = [index for index, fold in enumerate(fold_of) if fold != held_out]
    quality = [grower.predict(index, {held_out, fold_of[index]}) for index in rest]
    return best_rules([examples[index] for index in rest], quality, rules)


def _precision_curve(example: Example, quality: np.ndarray, rules: Rules) -> np.ndarray:
    """Returns the average precision of an image at each of TRIED_THRESHOLDS, from one selection.

    A higher threshold removes the worst masks of a selection and does not change the others.
    """
    selection = replace(rules, threshold=float(TRIED_THRESHOLDS[0])).select(example.candidates, quality)
    pair = overlaps(example.truth, selection.labels)
    stays = quality[selection.chosen][:, None] >= TRIED_THRESHOLDS
    matched = (pair.iou[:, None, None] > THRESHOLDS) & stays[pair.predicted_index][:, :, None]
    found = matched.sum(axis=0)
    kept = stays.sum(axis=0)[:, None]
    counts = Matches(found, kept - found, len(pair.truth_ids) - found)
    return counts.average_precision.mean(axis=1)


class _Grower:
    """Grows and caches trees on all folds but some."""

    def __init__(self, examples: Sequence[Example], fold_of: Sequence[int], settings: FitSettings, bar: tqdm):
        self._examples, self._fold_of, self._settings, self._bar = examples, fold_of, settings, bar
        self._grown: dict[frozenset[int], list[list[Tree]]] = {}

    def predict(self, index: int, without: set[int]) -> np.ndarray:
        """Predicts the IoU of an image's masks by trees grown without some folds.

        Args:
            index: Position of the image among the examples.
            without: Numbers of the folds, from 0 on.

        Returns:
            float64 `[N]` in 0..1.
        """
        return np.clip(predict_mean(self.models(frozenset(without)), self._examples[index].features), 0, 1)

    def models(self, without: frozenset[int]) -> list[list[Tree]]:
        if without not in self._grown:
            seen = [
                example
                for example, fold in zip(self._examples, self._fold_of, strict=True)
                if fold not in without and len(example.iou)
            ]
            if not seen:
                raise NothingToLearnError("There is no predicted mask to learn from in some of the folds.")
            self._grown[without] = grow(
                np.concatenate([example.features for example in seen]),
                np.concatenate([example.iou for example in seen]),
                self._settings.boosting,
                self._settings.seed,
                self._settings.threads,
            )
            self._bar.update()
        return self._grown[without]


def _assign(examples: Sequence[Example], folds: Sequence[Sequence[str]]) -> list[int]:
    """Returns the fold of each image."""
    fold_of = {name: number for number, fold in enumerate(folds) for name in fold}
    missing = [example.id for example in examples if example.id not in fold_of]
    if missing:
        raise ValueError(f"{missing[0]}: the image is in none of the folds")
    assigned = [fold_of[example.id] for example in examples]
    empty = set(range(len(folds))) - set(assigned)
    if empty:
        raise ValueError(f"fold {min(empty) + 1} of {len(folds)} has none of the {len(examples)} images")
    return assigned
