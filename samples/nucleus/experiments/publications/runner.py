"""Reproduction of an experiment: trainings and measurements, resumed where they were interrupted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import keras

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.folds import FOLDS_FILE, find_folds, read_folds
from nucleus.evaluation.scores import Scores
from nucleus.evaluation.scores.sums import Sums
from nucleus.experiments.publications.experiment import GROUPS, PREVIOUS, Experiment, Figure, Training
from nucleus.experiments.publications.images import ALL_FOLDS, VAL, Division, Images
from nucleus.experiments.publications.measure import (
    add,
    glas_rank_sum,
    measure,
    modality_parts,
    values,
)
from nucleus.experiments.publications.scored import Scored, as_test_set, require_named, warn_of_unknown_modalities
from nucleus.experiments.publications.table import Row, append_rows, read_table
from nucleus.models.base import NucleusModel
from nucleus.models.loading import model_of
from nucleus.models.square import FitSquare
from nucleus.models.tta import Joint
from nucleus.prediction.detection import detect
from nucleus.training.resuming import train_or_resume

_HELD_OUT = "held-out images of the folds"


@dataclass(frozen=True)
class Options:
    """Options of a reproduction that are not part of the experiment.

    Attributes:
        output: Folder of the table and of the runs.
        dataset: Folder of the data set; None for the experiment's default.
        layout: Layout of the data set; None to detect it.
        classes: CSV file with the modality of every image, test images included; None for what the data sets say.
        test: Data set that is scored instead of held-out images or test parts; None for none.
        test_subset: Subset of the test set; None for all of it, or for its test parts.
        test_layout: Layout of the test set; None to detect it.
        weights: Weights file to score instead of training; None to train.
        held_out: Numbers of the folds to hold out; empty for the experiment's.
        settings: Attribute name -> value, on top of the experiment's.
        quick: True if the experiment was made small by `quick`.
    """

    output: Path
    dataset: Path | None = None
    layout: str | None = None
    classes: Path | None = None
    test: Path | None = None
    test_subset: str | None = None
    test_layout: str | None = None
    weights: Path | None = None
    held_out: tuple[int, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    quick: bool = False


@dataclass
class _Measured:
    """Sums measured so far by part of the images, the images' description, and an ensemble's shares by member."""

    parts: dict[str, list[Sums]] = field(default_factory=dict)
    on: str = ""
    shares: dict[str, float] = field(default_factory=dict)

    def add(self, more: Mapping[str, list[Sums]]) -> None:
        for part, sums in more.items():
            self.parts[part] = add(self.parts.get(part), sums)


def reproduce(experiment: Experiment, options: Options) -> list[Row]:
    """Trains an experiment's models, or loads weights, scores them, and adds the scores to the table.

    Test images are read, and label images made of their masks, before any training.

    Every training has a folder `<output>/<name>/<run or fold>/<number>-<preset>`; a call that finds trainings
    there resumes them. `<output>/reproduced.csv` and `.md` get a row for every published figure.

    Args:
        experiment: The experiment, or `quick` of it.
        options: Data sets, weights, folds, settings and output folder.

    Returns:
        The rows that were added.

    Raises:
        ValueError: Images, settings or weights cannot be used, or the output folder holds other ones.
        DownloadError: Published weights could not be fetched.
    """
    start = time.perf_counter()
    read_table(options.output)
    root = options.dataset or Path(experiment.source.default)
    images = Images(experiment.source, root, options.layout, options.classes)
    folder = options.output / experiment.name
    measured = _Measured()
    scored = _find_scored(experiment, images, options)
    if experiment.members:
        _train_and_score_ensemble(experiment, images, scored, options, measured)
    elif options.weights is not None:
        _score_file(experiment, images, scored, options, measured)
    else:
        experiment.inference_config(options.settings)
        _train_and_score(experiment, images, scored, folder, options, measured)
    rows = list(_rows(experiment, measured, options, time.perf_counter() - start))
    append_rows(options.output, rows)
    return rows


def _find_scored(experiment: Experiment, images: Images, options: Options) -> Scored | None:
    """Returns the images of a test set; None where images held out of the trainings are scored instead."""
    source = experiment.source
    if options.test is not None:
        test = as_test_set(source, options.test, options.test_subset, options.test_layout, options.classes)
    elif options.test_subset or options.test_layout:
        raise ValueError("--test-subset and --test-layout are those of another data set: name it (--test=PATH).")
    else:
        test = images if source.tests else None
    if options.classes is not None:
        chosen = [(test, subset) for subset in test.source.tests.values()] if test else []
        chosen += [(images, ALL_FOLDS)] if options.weights is None or test in (None, images) else []
        require_named(options.classes, chosen)
    scored = None if test is None else Scored.of(test, "" if test is images else f"{options.test} ")
    if any(figure.part in GROUPS for figure in experiment.figures):
        held_out = ALL_FOLDS if source.folds else VAL
        infos = scored.infos if scored is not None else images.load(held_out).image_info
        warn_of_unknown_modalities(experiment, infos)
    return scored


def _score_file(
    experiment: Experiment, images: Images, scored: Scored | None, options: Options, measured: _Measured
) -> None:
    """Scores weights on the images that their training held out, as far as that is known, or on a test set."""
    if options.held_out:
        raise ValueError("--fold is for trainings: --weights are scored on the images that their own run held out.")
    held_out, on = (VAL, None), _HELD_OUT
    folds = find_folds(options.weights)
    if folds is not None and folds.held_out is not None:
        held_out = (ALL_FOLDS, frozenset(folds.split(folds.held_out)[1]))
        on = f"fold {folds.held_out} of {len(folds.ids)}, which the weights' training held out"
    elif experiment.source.folds and scored is None:
        raise ValueError(
            f"{experiment.name} holds {experiment.source.folds} folds out in turn, and which images {options.weights} "
            f"was trained on is not known (no {FOLDS_FILE} is beside it): name other ones to score (--test=PATH)."
        )
    _measure(experiment, _predictor(experiment, options.weights, options), images, scored, held_out, measured, on)


def _train_and_score(
    experiment: Experiment, images: Images, scored: Scored | None, folder: Path, options: Options, measured: _Measured
) -> None:
    """Trains every division's model, and scores it on the images that it has not seen; on a test set all together."""
    predictors = []
    for division in _divisions(experiment, images, folder, options):
        weights = _train(experiment, images, division, folder / division.name, options.settings)
        predictor = _predictor(experiment, weights, options)
        if scored is not None:
            predictors.append(predictor)
            continue
        _measure(experiment, predictor, images, None, division.val, measured)
        keras.utils.clear_session()
    if predictors:
        _measure(experiment, Joint(predictors), images, scored, None, measured)


def _train_and_score_ensemble(
    experiment: Experiment, images: Images, scored: Scored | None, options: Options, measured: _Measured
) -> None:
    """Trains the members or resumes their own experiments' trainings, and scores the nuclei that the ensemble picks.

    The ensemble learns from what they find in the images held out of their trainings. On a test set the networks of a
    member's folds predict together.
    """
    from nucleus.ensemble.fitting import NothingToLearnError
    from nucleus.experiments.publications.ensemble import (
        fit_ensemble,
        measure_out_of_fold,
        measure_test,
        require_ensembles,
    )

    if options.weights or options.held_out or options.settings:
        raise ValueError(
            f"{experiment.name} needs every fold of its members as their experiments have them: --weights, --fold and "
            f"--set have no place in it."
        )
    require_ensembles()
    test = None if scored is None else scored.parts[""]
    found: dict[str, list[Path]] = {}
    found_in_test: dict[str, list[Path]] = {}
    for member in experiment.members:
        weights, found[member.model] = _predict_out_of_fold(member, images, options)
        if test is not None:
            together = Joint([_predictor(member, path, options) for path in weights])
            found_in_test[member.model] = [_detect(together, test, options.output / experiment.name / member.name)]
            keras.utils.clear_session()
    folds, *others = (read_folds(options.output / member.name / FOLDS_FILE) for member in experiment.members)
    if any(other.ids != folds.ids for other in others):
        raise ValueError(f"{options.output}: the members' folds.json differ. Choose another output folder.")
    dataset = images.load(ALL_FOLDS, {name for fold in folds.ids for name in fold})
    try:
        examples, fitted = fit_ensemble(dataset, found, folds)
    except NothingToLearnError as error:
        if not options.quick:
            raise ValueError(f"{experiment.name}: {error}") from error
        # Networks that were trained for a step may well find nothing.
        measured.on = f"nothing ({error})"
        return
    if scored is None:
        measured.on, (parts, measured.shares) = _HELD_OUT, measure_out_of_fold(examples, fitted)
    else:
        measured.on, (parts, measured.shares) = scored.on, measure_test(fitted.ensemble, test, found_in_test)
    measured.add(parts)


def _predict_out_of_fold(member: Experiment, images: Images, options: Options) -> tuple[list[Path], list[Path]]:
    """Trains a member for every fold; returns the weights, and the folders of what they find in the images held out."""
    folder = options.output / member.name
    weights, found = [], []
    for division in images.divisions(folder):
        weights.append(_train(member, images, division, folder / division.name, {}))
        predictor = _predictor(member, weights[-1], options)
        found.append(_detect(predictor, images.load(*division.val), folder / division.name / "predictions"))
        keras.utils.clear_session()
    return weights, found


def _detect(predictor: NucleusModel, dataset: NucleusDataset, to: Path) -> Path:
    """Writes what is found in images; one that is missing would be missing in the scores."""
    detections = detect(predictor, dataset, to)
    if detections.failures:
        raise ValueError(detections.failures[0])
    return to


def _predictor(experiment: Experiment, weights: Path, options: Options) -> NucleusModel:
    model = model_of(weights, experiment.inference_config(options.settings))
    side = experiment.source.fit
    return model if side is None else FitSquare(model, side)


def _divisions(experiment: Experiment, images: Images, folder: Path, options: Options) -> list[Division]:
    folds = experiment.source.folds
    unknown = [number for number in options.held_out if number not in range(1, folds + 1)]
    if unknown:
        known = f"folds 1 to {folds}" if folds else "no folds"
        raise ValueError(f"{experiment.name} has {known}. Received: fold {unknown[0]}")
    return list(images.divisions(folder, options.held_out))


def _train(
    experiment: Experiment, images: Images, division: Division, folder: Path, settings: Mapping[str, Any]
) -> Path:
    """Runs the trainings of a division one after the other; returns the last one's weights."""
    weights: Path | None = None
    for number, training in enumerate(experiment.trainings, start=1):
        run = folder / f"{number}-{training.preset}"
        print(f"{experiment.name}, {division.name}, training {number} of {len(experiment.trainings)}: {run}")
        weights = _train_one(experiment, training, images, division, run, settings, weights)
        if division.folds is not None:
            division.folds.save(weights.parent / FOLDS_FILE)
    return weights


def _train_one(
    experiment: Experiment,
    training: Training,
    images: Images,
    division: Division,
    run: Path,
    settings: Mapping[str, Any],
    previous: Path | None,
) -> Path:
    recipe = experiment.recipe(training, settings)
    fit = experiment.source.fit
    train, val = images.load(*division.train, fit=fit), images.load(*division.val, fit=fit)
    train.cache_labels()
    val.cache_labels()
    begin = previous if training.weights == PREVIOUS else None
    return train_or_resume(recipe, training.weights, begin, run, train, val)


def _measure(
    experiment: Experiment,
    predictor: NucleusModel,
    images: Images,
    scored: Scored | None,
    held_out: tuple[str, frozenset[str] | None] | None,
    measured: _Measured,
    on: str = _HELD_OUT,
) -> None:
    """Adds a model's scores on the test set, if there is one, else on the images held out, which `on` names."""
    entropy = any(figure.metric == "BCE" for figure in experiment.figures) and experiment.model == "unet"
    if scored is not None:
        measured.on = scored.on
        measured.add(scored.measure(predictor, entropy))
    else:
        subset, ids = held_out
        measured.on = subset if ids is None else on
        measured.add(measure(predictor, images.load(subset, ids), modality_parts, entropy))


def _rows(experiment: Experiment, measured: _Measured, options: Options, seconds: float) -> Iterator[Row]:
    """Yields a row for every published figure."""
    parts = {part: values(sums) for part, sums in measured.parts.items()}
    for figure in experiment.figures:
        yield Row(
            date=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            experiment=experiment.name,
            metric=figure.metric,
            part=figure.part,
            dataset=_dataset(experiment, options),
            published=figure.value,
            measured=_value(experiment, figure, measured, parts),
            images=_images(figure, parts),
            measured_on=measured.on,
            weights="trained" if options.weights is None else str(options.weights),
            settings=" ".join(f"{name}={value}" for name, value in options.settings.items()),
            quick=options.quick,
            backend=keras.backend.backend(),
            seconds=round(seconds, 1),
            citation=f"{experiment.citation} {experiment.place}",
        )


def _dataset(experiment: Experiment, options: Options) -> str:
    """Returns where the images are; empty where only those of a test set are used."""
    if options.weights is not None and options.test is not None:
        return ""
    return str(options.dataset or experiment.source.default)


def _value(
    experiment: Experiment, figure: Figure, measured: _Measured, parts: Mapping[str, Mapping[str, float]]
) -> float | None:
    """Returns what was measured of a figure; None where that part has no images or the model no such score."""
    if figure.metric == "rank_sum":
        glas = {part: sums[0].glas for part, sums in measured.parts.items() if isinstance(sums[0], Scores)}
        return glas_rank_sum(experiment.name, glas["A"], glas["B"]) if {"A", "B"} <= glas.keys() else None
    if figure.metric in measured.shares:
        return measured.shares[figure.metric]
    return parts.get(figure.part, {}).get(figure.metric)


def _images(figure: Figure, parts: Mapping[str, Mapping[str, float]]) -> int:
    """Returns the number of images of a figure's part; of all parts where the figure is of them together."""
    if figure.part in parts:
        return int(parts[figure.part]["images"])
    return int(sum(scores["images"] for scores in parts.values())) if not figure.part else 0
