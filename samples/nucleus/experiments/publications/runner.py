"""Reproduction of an experiment: trainings and measurements, resumed where they were interrupted."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import keras

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.folds import FOLDS_FILE, find_folds, read_folds
from nucleus.evaluation.scores import Scores, rank_sum_table
from nucleus.evaluation.scores.sums import Sums
from nucleus.experiments.publications.experiment import GROUPS, PREVIOUS, Experiment, Figure
from nucleus.experiments.publications.images import ALL_FOLDS, VAL, Division, Images
from nucleus.experiments.publications.scoring import add, modality_parts, sum_scores, values
from nucleus.experiments.publications.table import Row, append_rows, read_table
from nucleus.experiments.publications.test_sets import Scored, as_test_set, require_named, warn_of_unknown_modalities
from nucleus.experiments.tiny import uncompiled
from nucleus.images.decoding import NO_CHOICE, Planes
from nucleus.models.base import NucleusModel
from nucleus.models.loading import load_model
from nucleus.models.square import FitSquare
from nucleus.models.tta import Joint
from nucleus.prediction.detection import detect
from nucleus.prediction.predictions import ModelPredictions
from nucleus.prediction.results import Results
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
        planes: Choice of channel, plane, frame and scene in image files that hold several.
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
    planes: Planes = NO_CHOICE
    quick: bool = False


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
    reproduction = _Reproduction(experiment, options)
    reproduction.run()
    rows = list(reproduction.rows(time.perf_counter() - start))
    append_rows(options.output, rows)
    return rows


class _Reproduction:
    """A reproduction under way, with the sums measured so far.

    Attributes:
        experiment: The experiment.
        options: Options of the reproduction.
        images: Images to train on, and to hold out.
        scored: Images of a test set; None where images held out of the trainings are scored instead.
        parts: Part of the scored images -> its sums.
        on: Description of the scored images.
        shares: Name of a score -> share of an ensemble's member, 0..1.
    """

    def __init__(self, experiment: Experiment, options: Options):
        self.experiment, self.options = experiment, options
        root = options.dataset or Path(experiment.source.default)
        self.images = Images(experiment.source, root, options.layout, options.classes, options.planes)
        self.scored = self._find_scored()
        self.parts: dict[str, list[Sums]] = {}
        self.on = ""
        self.shares: dict[str, float] = {}

    def run(self) -> None:
        """Trains models or loads weights, and scores them."""
        if self.experiment.members:
            self._train_and_score_ensemble()
        elif self.options.weights is not None:
            self._score_file()
        else:
            self.experiment.inference_config(self.options.settings)
            with self._computing(self.experiment):
                self._train_and_score()

    def rows(self, seconds: float) -> Iterator[Row]:
        """Yields a row for every published figure, given the seconds that the reproduction took."""
        parts = {part: values(sums) for part, sums in self.parts.items()}
        experiment, options = self.experiment, self.options
        only_tests = options.weights is not None and options.test is not None
        for figure in experiment.figures:
            yield Row(
                date=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
                experiment=experiment.name,
                metric=figure.metric,
                part=figure.part,
                dataset="" if only_tests else str(self.images.root),
                published=figure.value,
                measured=self._value(figure, parts),
                images=_images(figure, parts),
                measured_on=self.on,
                weights="trained" if options.weights is None else str(options.weights),
                settings=" ".join(f"{name}={value}" for name, value in options.settings.items()),
                quick=options.quick,
                backend=keras.backend.backend(),
                seconds=round(seconds, 1),
                citation=f"{experiment.citation} {experiment.place}",
            )

    def _find_scored(self) -> Scored | None:
        source, options, images = self.experiment.source, self.options, self.images
        if options.test is not None:
            test = as_test_set(
                source, options.test, options.test_subset, options.test_layout, options.classes, options.planes
            )
        elif options.test_subset or options.test_layout:
            raise ValueError("--test-subset and --test-layout are those of another data set: name it (--test=PATH).")
        else:
            test = images if source.tests else None
        if options.classes is not None:
            chosen = [(test, subset) for subset in test.source.tests.values()] if test else []
            chosen += [(images, ALL_FOLDS)] if options.weights is None or test in (None, images) else []
            require_named(options.classes, chosen)
        scored = None if test is None else Scored.of(test, "" if test is images else f"{options.test} ")
        if any(figure.part in GROUPS for figure in self.experiment.figures):
            held_out = ALL_FOLDS if source.folds else VAL
            infos = scored.infos if scored is not None else images.load(held_out).image_info
            warn_of_unknown_modalities(self.experiment, infos)
        return scored

    def _score_file(self) -> None:
        """Scores weights on the images that their training held out, as far as that is known, or on a test set."""
        weights, source = self.options.weights, self.experiment.source
        if self.options.held_out:
            raise ValueError("--fold is for trainings: --weights are scored on the images that their own run held out.")
        held_out, on = (VAL, None), _HELD_OUT
        folds = find_folds(weights)
        if folds is not None and folds.held_out is not None:
            held_out = (ALL_FOLDS, frozenset(folds.split(folds.held_out)[1]))
            on = f"fold {folds.held_out} of {len(folds.ids)}, which the weights' training held out"
        elif source.folds and self.scored is None:
            raise ValueError(
                f"{self.experiment.name} holds {source.folds} folds out in turn, and which images {weights} was "
                f"trained on is not known (no {FOLDS_FILE} is beside it): name other ones to score (--test=PATH)."
            )
        self._measure(self._predictor(self.experiment, weights), held_out, on)

    def _train_and_score(self) -> None:
        """Trains every division's model and scores it on its held-out images; on a test set, all models together."""
        folds = self.experiment.source.folds
        unknown = [number for number in self.options.held_out if number not in range(1, folds + 1)]
        if unknown:
            known = f"folds 1 to {folds}" if folds else "no folds"
            raise ValueError(f"{self.experiment.name} has {known}. Received: fold {unknown[0]}")
        predictors = []
        for division in self.images.divisions(self.options.output / self.experiment.name, self.options.held_out):
            predictor = self._predictor(self.experiment, self._train(self.experiment, division))
            if self.scored is not None:
                predictors.append(predictor)
                continue
            self._measure(predictor, division.val)
            keras.utils.clear_session()
        if predictors:
            self._measure(Joint(predictors))

    def _train_and_score_ensemble(self) -> None:
        """Trains the members or resumes their own experiments' trainings, and scores the nuclei the ensemble picks.

        The ensemble learns from what they find in the images held out of their trainings. On a test set the networks
        of a member's folds predict together.
        """
        from nucleus.ensemble.boosting import import_lightgbm
        from nucleus.ensemble.fitting import NothingToLearnError
        from nucleus.experiments.publications.ensemble import fit_ensemble, score_out_of_fold, score_test

        name, options, scored = self.experiment.name, self.options, self.scored
        if options.weights or options.held_out or options.settings:
            raise ValueError(
                f"{name} needs every fold of its members as their experiments have them: --weights, --fold and --set "
                "have no place in it."
            )
        import_lightgbm()
        test = None if scored is None else scored.parts[""]
        found: dict[str, list[Path]] = {}
        found_in_test: dict[str, list[Path]] = {}
        for member in self.experiment.members:
            weights, found[member.model] = self._predict_out_of_fold(member)
            if test is not None:
                together = Joint([self._predictor(member, path) for path in weights])
                with self._computing(member):
                    found_in_test[member.model] = [_detect(together, test, options.output / name / member.name)]
                keras.utils.clear_session()
        folds, *others = (read_folds(options.output / each.name / FOLDS_FILE) for each in self.experiment.members)
        if any(other.ids != folds.ids for other in others):
            raise ValueError(f"{options.output}: the members' folds.json differ. Choose another output folder.")
        dataset = self.images.load(ALL_FOLDS, {image_id for fold in folds.ids for image_id in fold})
        try:
            model = fit_ensemble(dataset, found, folds)
        except NothingToLearnError as error:
            if not options.quick:
                raise ValueError(f"{name}: {error}") from error
            # Few images may hold nothing in all folds but one.
            self.on = f"nothing ({error})"
            return
        if scored is None:
            self.on, (parts, self.shares) = _HELD_OUT, score_out_of_fold(model, dataset)
        else:
            self.on, (parts, self.shares) = scored.on, score_test(model.ensemble, test, found_in_test)
        self._add(parts)

    def _predict_out_of_fold(self, member: Experiment) -> tuple[list[Path], list[Path]]:
        """Trains a member for every fold; returns the weights, and the folders of what they find in images held out."""
        folder = self.options.output / member.name
        weights, found = [], []
        for division in self.images.divisions(folder):
            with self._computing(member):
                weights.append(self._train(member, division))
                predictor, held_out = self._predictor(member, weights[-1]), self.images.load(*division.val)
                found.append(_detect(predictor, held_out, folder / division.name / "predictions"))
            keras.utils.clear_session()
        return weights, found

    def _computing(self, experiment: Experiment) -> AbstractContextManager[None]:
        """Returns the context that an experiment is computed in: not compiled where that takes longer than it saves."""
        few_steps = self.options.quick and experiment.trainings[0].start is not None
        return uncompiled() if few_steps else nullcontext()

    def _predictor(self, experiment: Experiment, weights: Path) -> NucleusModel:
        model = load_model(weights, experiment.inference_config(self.options.settings))
        side = experiment.source.fit
        return model if side is None else FitSquare(model, side)

    def _train(self, experiment: Experiment, division: Division) -> Path:
        """Runs the trainings of a division one after the other; returns the last one's weights."""
        folder, fit = self.options.output / experiment.name / division.name, experiment.source.fit
        weights: Path | None = None
        for number, training in enumerate(experiment.trainings, start=1):
            run = folder / f"{number}-{training.preset}"
            print(f"{experiment.name}, {division.name}, training {number} of {len(experiment.trainings)}: {run}")
            learnt = division.val if experiment.source.learns_scored else division.train
            train, val = self.images.load(*learnt, fit=fit), self.images.load(*division.val, fit=fit)
            train.cache_labels()
            val.cache_labels()
            begin = weights if training.weights == PREVIOUS else training.start
            recipe = experiment.recipe(training, self.options.settings, len(train.image_ids))
            weights = train_or_resume(recipe, training.weights, begin, run, train, val)
            if division.folds is not None:
                division.folds.save(weights.parent / FOLDS_FILE)
        return weights

    def _measure(
        self, model: NucleusModel, held_out: tuple[str, frozenset[str] | None] | None = None, on: str = _HELD_OUT
    ) -> None:
        """Adds a model's scores on the test set, if there is one, else on the images held out, which `on` names."""
        entropy = any(figure.metric == "BCE" for figure in self.experiment.figures) and self.experiment.model == "unet"
        predictions, unet = ModelPredictions(model), model if entropy else None
        if self.scored is not None:
            self.on = self.scored.on
            self._add(self.scored.sum_scores(predictions, unet))
        else:
            subset, ids = held_out
            self.on = subset if ids is None else on
            self._add(sum_scores(predictions, self.images.load(subset, ids), modality_parts, unet))

    def _add(self, measured: Mapping[str, list[Sums]]) -> None:
        for part, sums in measured.items():
            self.parts[part] = add(self.parts.get(part), sums)

    def _value(self, figure: Figure, parts: Mapping[str, Mapping[str, float]]) -> float | None:
        """Returns the measured value of a figure; None if its part has no images or the model no such score."""
        if figure.metric == "rank_sum":
            glas = {part: sums[0].glas for part, sums in self.parts.items() if isinstance(sums[0], Scores)}
            if not {"A", "B"} <= glas.keys():
                return None
            repeated = (self.experiment.ranked_as,) if self.experiment.ranked_as else ()
            table = rank_sum_table({self.experiment.name: (glas["A"], glas["B"])}, without=repeated)
            return int(table.loc[self.experiment.name, ("rank sum", "")])
        if figure.metric in self.shares:
            return self.shares[figure.metric]
        return parts.get(figure.part, {}).get(figure.metric)


def _detect(model: NucleusModel, dataset: NucleusDataset, to: Path) -> Path:
    """Writes the predictions of images; raises an error if one fails, since it would be missing in the scores."""
    with Results(to, overwrite=True) as results:
        detections = detect(model, dataset, results)
    if detections.failures:
        raise ValueError(detections.failures[0])
    return to


def _images(figure: Figure, parts: Mapping[str, Mapping[str, float]]) -> int:
    """Returns the number of images of a figure's part, or of all parts for a figure of them together."""
    if figure.part in parts:
        return int(parts[figure.part]["images"])
    return int(sum(scores["images"] for scores in parts.values())) if not figure.part else 0
