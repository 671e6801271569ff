"""Experiments read from TOML files: publications, data sets, inheritance between entries, and validation.

`example.toml` beside this module explains every key.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nucleus.evaluation.scores import overlaps, score
from nucleus.evaluation.scores.ranking import PUBLISHED
from nucleus.experiments.publications.experiment import (
    BCE,
    ENSEMBLE,
    GROUPS,
    PREVIOUS,
    RANK_SUM,
    Citation,
    Experiment,
    Figure,
    PublishedDataSet,
    Training,
)
from nucleus.experiments.publications.schema import (
    DATA_SET,
    DEFAULTS,
    EXPERIMENT,
    FILE,
    PUBLICATION,
    TEXTS,
    TRAINING,
    EntryError,
    Kind,
    check,
    refuse_known,
    require,
    require_known,
)
from nucleus.models.registry import MODELS, NETWORKS
from trainkit.reading import reading
from trainkit.settings import SettingsError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# A value that was published as a curve only.
_DRAWN = "drawn"
# Names of experiments are names of their folders too.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_MERGED = ("settings", "inference")
_NOT_INHERITED = ("base", "summary", "place", "figures", "ranked_as")
_OF_TRAININGS = ("preset", "weights", "settings", "trainings", "inference", "whole_epochs", "ranked_as")


class _Draft(NamedTuple):
    """An entry as it stands in its file.

    Attributes:
        where: File and name, for error messages.
        citation: The file's publication.
        defaults: The file's defaults.
        own: The entry's own keys.
    """

    where: str
    citation: Citation
    defaults: Mapping[str, Any]
    own: Mapping[str, Any]


def read_experiments(paths: Iterable[Path]) -> dict[str, Experiment]:
    """Reads experiments; an entry may refer to data sets and entries of every file.

    Args:
        paths: TOML files.

    Returns:
        Name -> experiment, in the order of the files and of the entries in them.

    Raises:
        EntryError: A file is not TOML, has an unknown key, a value of the wrong type or a name that exists already,
            or refers to a model, preset, setting, data set or experiment that does not exist; or a file cannot be read.
    """
    sources: dict[str, PublishedDataSet] = {}
    drafts: dict[str, _Draft] = {}
    for path in paths:
        content = _parse(path)
        for name, table in content.get("data_sets", {}).items():
            where = f"{path}: data set {name!r}"
            refuse_known(where, name, sources)
            sources[name] = _data_source(where, table)
        for name, draft in _drafts(path, content).items():
            refuse_known(draft.where, name, drafts)
            drafts[name] = draft
    return _Builder(drafts, sources).build_all()


class _Builder:
    """Makes experiments of drafts.

    Args:
        drafts: Name -> draft, of all files.
        sources: Name -> data set, of all files.
    """

    def __init__(self, drafts: Mapping[str, _Draft], sources: Mapping[str, PublishedDataSet]) -> None:
        self._drafts, self._sources = drafts, sources
        self._built: dict[str, Experiment] = {}

    def build_all(self) -> dict[str, Experiment]:
        """Returns the experiments in the order of the drafts."""
        return {name: self._build(name) for name in self._drafts}

    def _build(self, name: str) -> Experiment:
        if name not in self._built:
            self._built[name] = self._make(name)
        return self._built[name]

    def _make(self, name: str) -> Experiment:
        draft = self._drafts[name]
        keys = self._inherit(name)
        require(draft.where, keys, "summary", "place", "model", "data", "figures")
        model = keys["model"]
        require_known(draft.where, "model", model, (*NETWORKS, ENSEMBLE))
        require_known(draft.where, "data", keys["data"], self._sources)
        source = _divided(draft.where, self._sources[keys["data"]], keys)
        alone = ("members",) if model != ENSEMBLE else (*_OF_TRAININGS, "fit")
        if unused := [key for key in alone if key in keys]:
            raise EntryError(f"{draft.where}: {unused[0]} has no use in an experiment of model {model!r}")
        members = self._members(draft.where, keys, source) if model == ENSEMBLE else ()
        if "ranked_as" in keys:
            require_known(draft.where, "published entry", keys["ranked_as"], PUBLISHED)
        experiment = Experiment(
            name=name,
            summary=keys["summary"],
            citation=draft.citation,
            place=keys["place"],
            source=source,
            model=model,
            trainings=() if members else _trainings(draft.where, keys),
            figures=_figures(draft.where, keys["figures"], source, members),
            notes=tuple(keys.get("notes", ())),
            members=members,
            inference=_python(keys.get("inference", {})),
            whole_epochs=keys.get("whole_epochs", False),
            ranked_as=keys.get("ranked_as"),
        )
        _require_usable_settings(draft.where, experiment)
        return experiment

    def _inherit(self, name: str, heirs: tuple[str, ...] = ()) -> dict[str, Any]:
        """Returns an entry's own keys over those of its base over the file's defaults."""
        draft = self._drafts[name]
        inherited: Mapping[str, Any] = {}
        base = draft.own.get("base")
        if base is not None:
            require_known(draft.where, "base", base, self._drafts)
            if base in (name, *heirs):
                raise EntryError(f"{draft.where}: base {base!r} is based on this entry")
            inherited = self._inherit(base, (name, *heirs))
        inherited = {key: value for key, value in inherited.items() if key not in _NOT_INHERITED}
        return _over(_over(draft.defaults, inherited), draft.own)

    def _members(self, where: str, keys: Mapping[str, Any], source: PublishedDataSet) -> tuple[Experiment, ...]:
        require(where, keys, "members")
        for name in keys["members"]:
            require_known(where, "member", name, self._drafts)
            if self._inherit(name).get("model") == ENSEMBLE:
                raise EntryError(f"{where}: member {name!r} is an ensemble itself")
        members = tuple(map(self._build, keys["members"]))
        models = [member.model for member in members]
        if len(set(models)) < len(models) or len(models) < 2:
            raise EntryError(f"{where}: an ensemble needs two or more members, each of another model")
        if not source.folds or any(member.source != source for member in members):
            raise EntryError(f"{where}: an ensemble and its members need the same data and the same folds")
        return members


def _parse(path: Path) -> dict[str, Any]:
    """Returns the tables of a file, their keys and types checked except for the entries'."""
    with reading(path, "not a TOML file in UTF-8", EntryError):
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    check(f"{path}", content, FILE)
    return content


def _drafts(path: Path, content: Mapping[str, Any]) -> dict[str, _Draft]:
    entries = content.get("experiments", {})
    if not entries:
        return {}
    publication, where = content.get("publication", {}), f"{path}: publication"
    check(where, publication, PUBLICATION, *PUBLICATION)
    citation = Citation(**publication)
    named = content.get("notes", {})
    check(f"{path}: notes", named, dict.fromkeys(named, TEXTS))
    defaults = _own_keys(f"{path}: defaults", content.get("defaults", {}), DEFAULTS, named)
    drafts = {}
    for name, table in entries.items():
        where = f"{path}: experiment {name!r}"
        if not _NAME.fullmatch(name):
            raise EntryError(f"{where}: a name consists of the letters A to Z, digits, '.', '_' and '-'")
        drafts[name] = _Draft(where, citation, defaults, _own_keys(where, table, EXPERIMENT, named))
    return drafts


def _own_keys(
    where: str, table: Mapping[str, Any], kinds: Mapping[str, Kind], named: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Checks keys and types of an entry, and replaces "$name" in its notes by the notes of that name."""
    check(where, table, kinds)
    for number, training in enumerate(table.get("trainings", ()), start=1):
        check(f"{where}: training {number}", training, TRAINING)
    if "notes" not in table:
        return dict(table)
    notes: list[str] = []
    for text in table["notes"]:
        if text.startswith("$"):
            require_known(where, "note", text, [f"${name}" for name in named])
            notes += named[text[1:]]
        else:
            notes.append(text)
    return {**table, "notes": notes}


def _data_source(where: str, table: Mapping[str, Any]) -> PublishedDataSet:
    check(where, table, DATA_SET, "name", "folder", "obtain")
    return PublishedDataSet(table["name"], table["folder"], table["obtain"], table.get("tests", {}))


def _divided(where: str, source: PublishedDataSet, keys: Mapping[str, Any]) -> PublishedDataSet:
    """Returns a data set with an experiment's folds and scaling."""
    folds = keys.get("folds", 0)
    held_out = tuple(keys.get("held_out", range(1, folds + 1)))
    if any(number > folds for number in held_out) or len(set(held_out)) < len(held_out):
        raise EntryError(f"{where}: held_out names folds from 1 to {folds}, each once. Received: {list(held_out)}")
    return replace(source, fit=keys.get("fit"), folds=folds, held_out=held_out)


def _trainings(where: str, keys: Mapping[str, Any]) -> tuple[Training, ...]:
    shared = {key: keys[key] for key in TRAINING if key in keys}
    if "trainings" in keys and (misplaced := [key for key in shared if key != "settings"]):
        raise EntryError(f"{where}: {misplaced[0]} belongs in each table of trainings")
    trainings = []
    for number, own in enumerate(keys.get("trainings", [{}]), start=1):
        training = _over(shared, own)
        require(where, training, "preset")
        weights = training.get("weights", "none")
        previous = (PREVIOUS,) if number > 1 else ()
        require_known(where, "weights", weights, (*MODELS[keys["model"]].pretrained, "none", *previous))
        trainings.append(Training(training["preset"], _python(training.get("settings", {})), weights))
    return tuple(trainings)


def _figures(
    where: str, rows: Sequence[Mapping[str, Any]], source: PublishedDataSet, members: Sequence[Experiment]
) -> tuple[Figure, ...]:
    measured = _measured(source, members)
    figures: dict[tuple[str, str], Figure] = {}
    for row in rows:
        part = row.get("part", "")
        require_known(where, "part", part, measured)
        for metric, value in row.items():
            if metric == "part":
                continue
            require_known(f"{where}: {f'part {part}' if part else 'all images'}", "score", metric, measured[part])
            if (metric, part) in figures:
                raise EntryError(f"{where}: {metric} is there twice{f' for {part}' if part else ''}")
            if value != _DRAWN and (type(value) not in (int, float) or not math.isfinite(value)):
                raise EntryError(f"{where}: {metric} needs a number or {_DRAWN!r}. Received: {value!r}")
            figures[metric, part] = Figure(metric, None if value == _DRAWN else value, part)
    if not figures:
        raise EntryError(f"{where}: figures hold no score")
    return tuple(figures.values())


def _measured(source: PublishedDataSet, members: Sequence[Experiment]) -> dict[str, tuple[str, ...]]:
    """Returns the scores that can be measured, by part of the scored images; "" is the part of all images."""
    scores = (*_scores(), BCE)
    parts = dict.fromkeys((part for part in source.tests if part), scores)
    if not parts or "" in source.tests:
        parts |= dict.fromkeys(GROUPS, scores)
        parts[""] = (*scores, *(f"picked_{member.model}" for member in members))
    elif {"A", "B"} <= parts.keys():
        parts[""] = (RANK_SUM,)
    return parts


@cache
def _scores() -> tuple[str, ...]:
    """Returns the names of all scores of label images."""
    nothing = np.zeros((1, 1), np.int32)
    return tuple(score(overlaps(nothing, nothing)).values())


def _require_usable_settings(where: str, experiment: Experiment) -> None:
    try:
        for training in experiment.trainings:
            experiment.training_config(training)
        if experiment.trainings:
            experiment.inference_config()
    except SettingsError as error:
        raise EntryError(f"{where}: {error}") from error


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Returns keys of two tables, those of `above` winning; settings are merged one by one."""
    merged = {key: {**below[key], **above[key]} for key in _MERGED if key in below and key in above}
    return {**below, **above, **merged}


def _python(value: Any) -> Any:
    """Returns a value of TOML as settings have it: tuples for lists, and None for "None"."""
    if isinstance(value, dict):
        return {key: _python(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(map(_python, value))
    return None if value == "None" else value
