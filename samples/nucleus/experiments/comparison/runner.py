"""Comparison out of fold: trainings, predictions, ensemble and scores, resumed where they were interrupted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import keras

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.fingerprint import IMAGES_FILE, fingerprint
from nucleus.datasets.folds import FOLDS_FILE, read_folds
from nucleus.datasets.provenance import check_note, require_same, write_note
from nucleus.ensemble.ensemble_model import EnsembleModel
from nucleus.ensemble.fitted import Rules
from nucleus.ensemble.fitting import FitSettings, NothingToLearnError
from nucleus.ensemble.running import EnsemblePredictions, run_ensemble
from nucleus.evaluation.evaluation import evaluate_fully
from nucleus.evaluation.report.writing import PAGE_FILE, write_report
from nucleus.experiments.comparison.members import Member
from nucleus.experiments.comparison.plan import ENSEMBLE, PLAIN, REPORT_FOLDER, ComparisonPlan
from nucleus.experiments.comparison.steps import StepRecord, Steps
from nucleus.experiments.comparison.summary import about, notes, title
from nucleus.experiments.comparison.table import CSV_FILE, MARKDOWN_FILE, write_table
from nucleus.models.base import NucleusModel
from nucleus.models.loading import resolve
from nucleus.models.registry import make_config
from nucleus.models.scale import with_scale
from nucleus.prediction.detection import DetectionRun, detect, write_detections
from nucleus.prediction.folders import PredictionFolder
from nucleus.prediction.results import Results
from nucleus.training.resuming import train_or_resume
from trainkit.files import file_digest

COMPARISON_FILE = "comparison.json"
MEMBER_FILE = "member.json"
# Folds with which an ensemble can choose its threshold on images that it is not scored on.
_LEAST_FOLDS_FOR_THRESHOLD = 3

# Called with only=ids; returns those images, prepared.
Load = Callable[..., NucleusDataset]


def compare(plan: ComparisonPlan, load: Load, output: str | Path) -> str:
    """Trains, predicts, combines and scores; every image is predicted by models that have not seen its fold.

    Everything is below `output`: `table.csv`, `table.md`, `report/report.html`, `comparison.json` (what was run, on
    what, and how long every step took), `folds.json`, and a folder for each member and the ensemble, with trainings
    (`fold1/training`...) and predictions of all images as `nucleus detect` writes them (`predictions`,
    `predictions_tta`). Another call resumes an interrupted one; it may have additional members.

    Args:
        plan: Members, folds, test-time augmentation and seed.
        load: Reads images, given their ids.
        output: Folder of the results.

    Returns:
        The tables, as they stand in `table.md`.

    Raises:
        ValueError: Images, settings or weights cannot be used, or the folder holds a comparison with other ones.
        DownloadError: Published weights could not be fetched.
    """
    plan.check()
    run = _Run(plan, load, Path(output))
    run.settle()
    found: dict[str, dict[str, tuple[Path, StepRecord]]] = {}
    for member in plan.members:
        found[member.name] = run.predict_out_of_fold(member)
    if plan.combined:
        found[ENSEMBLE] = run.combine(found)
    rows = {_row_name(name, views): source for name, by_views in found.items() for views, source in by_views.items()}
    run.score(rows)
    return (run.output / MARKDOWN_FILE).read_text(encoding="utf-8")


class _Run:
    def __init__(self, plan: ComparisonPlan, load: Load, output: Path):
        self.plan, self.output, self._load = plan, output, load
        self.steps = Steps()
        # Reasons for rows that are missing from the table.
        self.missing: list[str] = []
        self.ids = frozenset(name for fold in plan.folds.ids for name in fold)
        self.views = dict.fromkeys((PLAIN, plan.views))
        self.dataset = load(only=self.ids)

    def settle(self) -> None:
        """Notes folds, images and members in the folder of the results, or checks them against its notes."""
        path, note = self.output / FOLDS_FILE, self.output / IMAGES_FILE
        images = {"images": fingerprint(self.dataset.image_info)}
        if path.is_file():
            require_same(path, "folds", {"folds": read_folds(path).ids}, {"folds": self.plan.folds.ids})
            check_note(note, "images", images)
        else:
            write_note(note, images)
            self.plan.folds.save(path)
        for member in self.plan.members:
            note = self.output / member.name / MEMBER_FILE
            if note.is_file():
                check_note(note, "settings", member.describe())
            else:
                write_note(note, member.describe())

    def predict_out_of_fold(self, member: Member) -> dict[str, tuple[Path, StepRecord]]:
        """Returns the folder and the record of a member's predictions of all images, for each of the views."""
        folder = self.output / member.name
        if not member.learns:
            model = _Model(member, None)
            return {views: self._detect(member, views, model, self.ids, folder) for views in self.views}
        parts: dict[str, list[tuple[Path, StepRecord]]] = {views: [] for views in self.views}
        for number in range(1, len(self.plan.folds.ids) + 1):
            model = _Model(member, self._train(member, number, folder / f"fold{number}" / "training"))
            held_out = self.plan.folds.split(number)[1]
            for views in self.views:
                parts[views].append(self._detect(member, views, model, held_out, folder / f"fold{number}"))
            keras.utils.clear_session()
        return {views: self._gather(member, views, parts[views], folder) for views in self.views}

    def combine(self, found: Mapping[str, Mapping[str, tuple[Path, StepRecord]]]) -> dict[str, tuple[Path, StepRecord]]:
        """Fits ensembles of the members across the same folds.

        Returns:
            The folder and the record of the ensemble's predictions for each of the views, except those in which the
            members found too little to learn from.
        """
        combined = {views: self._combine(found, views) for views in self.views}
        for views, (_, record) in combined.items():
            if "left_out" in record.outcome:
                self.missing.append(f"{_row_name(ENSEMBLE, views)} is left out: {record.outcome['left_out']}")
        return {views: pair for views, pair in combined.items() if "left_out" not in pair[1].outcome}

    def score(self, rows: Mapping[str, tuple[Path, StepRecord]]) -> None:
        """Writes the tables, the report and what was run."""
        folder = self.output / REPORT_FOLDER
        inputs = {
            "iou": self.plan.iou,
            "notes": notes(self.plan, self.missing),
            "predictions": {name: record.finished for name, (_, record) in rows.items()},
        }

        def work() -> None:
            predictions = [PredictionFolder(path, name) for name, (path, _) in rows.items()]
            evaluations = [evaluate_fully(each, self.dataset, self.plan.iou) for each in predictions]
            for evaluation in evaluations:
                evaluation.save(folder / "scores" / evaluation.name)
            write_report(folder, self.dataset, evaluations, predictions, title(self.plan))
            write_table(self.output, evaluations, notes(self.plan, self.missing))

        results = [self.output / CSV_FILE, self.output / MARKDOWN_FILE, folder / PAGE_FILE]
        self.steps.run("scores and report", folder, inputs, work, results)
        modalities = [info["modality"] for info in self.dataset.image_info]
        write_note(self.output / COMPARISON_FILE, about(self.plan, modalities, self.steps.records))

    def _train(self, member: Member, number: int, folder: Path) -> Path:
        recipe = member.recipe()
        train_ids, held_out = self.plan.folds.split(number)
        inputs = {
            "recipe": {**asdict(recipe), "settings": {name: str(value) for name, value in recipe.settings.items()}},
            "member": member.describe(),
            "images": _digest(train_ids),
        }

        def work() -> dict[str, str]:
            # The images held out are for the losses that are logged: nothing is chosen by them.
            train, val = self._load(only=train_ids), self._load(only=held_out)
            train.cache_labels(progress=False)
            val.cache_labels(progress=False)
            begin = "file" if member.file is not None else member.weights
            weights = train_or_resume(recipe, begin, member.file, folder, train, val, epochs=member.epochs)
            replace(self.plan.folds, held_out=number).save(weights.parent / FOLDS_FILE)
            keras.utils.clear_session()
            return {"weights": weights.relative_to(folder).as_posix(), "sha256": file_digest(weights, "sha256")}

        record = self.steps.run(f"{member.name}, fold {number}, training", folder, inputs, work)
        return folder / record.outcome["weights"]

    def _detect(
        self, member: Member, views: str, model: _Model, ids: Collection[str], folder: Path
    ) -> tuple[Path, StepRecord]:
        """Predicts images that the model has not seen."""
        to = folder / _predictions(views)
        inputs = {"member": member.describe(), "views": views, "weights": model.sha256, "images": _digest(ids)}

        def work() -> dict[str, int]:
            with Results(to, overwrite=True) as results:
                return _counts(detect(model.in_views(views), self._load(only=ids), results))

        return to, self.steps.run(f"{folder.relative_to(self.output)}, {to.name}", to, inputs, work)

    def _gather(
        self, member: Member, views: str, parts: Sequence[tuple[Path, StepRecord]], folder: Path
    ) -> tuple[Path, StepRecord]:
        """Gathers the predictions of all folds in one folder; a missing or repeated image is an error."""
        to = folder / _predictions(views)

        def work() -> dict[str, int]:
            found = PredictionFolder([path for path, _ in parts], member.name)
            with Results(to, overwrite=True) as results:
                return _counts(write_detections(found.find, self.dataset, results))

        inputs = {"folds": [record.finished for _, record in parts]}
        return to, self.steps.run(f"{member.name}, {to.name} of all folds", to, inputs, work)

    def _combine(
        self, found: Mapping[str, Mapping[str, tuple[Path, StepRecord]]], views: str
    ) -> tuple[Path, StepRecord]:
        to = self.output / ENSEMBLE / _predictions(views)
        members = {member.name: found[member.name][views] for member in self.plan.combined}
        choose = len(self.plan.folds.ids) >= _LEAST_FOLDS_FOR_THRESHOLD
        given = {} if choose else {"THRESHOLD": Rules.threshold}
        config = make_config("inference", settings={"SEED": self.plan.seed, **given}, model=EnsembleModel.kind)

        def work() -> dict[str, Any]:
            folders = {name: PredictionFolder(path, name) for name, (path, _) in members.items()}
            model = EnsembleModel(folders, config=config, folds=self.plan.folds)
            try:
                model.fit(self.dataset, None)
            except NothingToLearnError as error:
                return {"left_out": str(error)}
            model.save(to / "ensemble.json")
            with Results(to, overwrite=True) as results:
                run, picks = run_ensemble(EnsemblePredictions(model, out_of_fold=True), self.dataset, results)
            threshold = {"threshold": model.ensemble.rules.threshold, "threshold_chosen": choose}
            return {**_counts(run), **threshold, "picked": picks["nuclei"].to_dict()}

        inputs = {
            "members": {name: record.finished for name, (_, record) in members.items()},
            "settings": asdict(FitSettings.from_config(config)),
        }
        return to, self.steps.run(f"{ENSEMBLE}, {to.name}", to, inputs, work)


def _row_name(name: str, views: str) -> str:
    return name if views == PLAIN else f"{name}+tta"


def _predictions(views: str) -> str:
    return "predictions" if views == PLAIN else "predictions_tta"


class _Model:
    """A model that is built once, when it is first needed, and predicts with different test-time augmentation.

    Args:
        member: The member of the comparison.
        weights: The member's weights file; None if it has none.
    """

    def __init__(self, member: Member, weights: Path | None):
        self._member, self._weights = member, weights

    @cached_property
    def sha256(self) -> str | None:
        """SHA-256 of the weights file; None for a model without weights."""
        if self._weights is not None and not self._weights.is_file():
            raise ValueError(
                f"{self._weights}: no longer exists. Remove the folder {self._weights.parents[1]} to train again."
            )
        return None if self._weights is None else file_digest(self._weights, "sha256")

    def in_views(self, views: str) -> NucleusModel:
        """Returns the model with these views of each image."""
        self._bare.config.update({"TEST_TIME_AUGMENTATION": views})
        return with_scale(self._bare)

    @cached_property
    def _bare(self) -> NucleusModel:
        return resolve(self._weights, self._member.detection_config()).load_bare()


def _counts(run: DetectionRun) -> dict[str, int]:
    """Returns the counts to note of a detection; raises an error if an image failed and would be missing in scores."""
    if run.failures:
        raise ValueError(run.failures[0])
    return {"images": run.images, "nuclei": run.nuclei}


def _digest(ids: Collection[str]) -> str:
    return f"{len(ids)} images, {hashlib.sha256(json.dumps(sorted(ids)).encode()).hexdigest()}"
