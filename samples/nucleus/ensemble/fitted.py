"""Fitted ensembles: their contents, their choice among nuclei, and their file, of which a fusion's is another kind."""

from __future__ import annotations

import hashlib
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np

from nucleus.ensemble.candidates import Candidates, gather
from nucleus.ensemble.features import feature_names, feature_table
from nucleus.ensemble.selection import LEAST_VISIBLE, NMS_THRESHOLD, Selection, select
from nucleus.ensemble.trees import Tree, predict_mean
from nucleus.models.base import Prediction
from trainkit.files import write_text
from trainkit.reading import read_json, reading

# To be incremented when a file format or the meaning of a feature changes.
_VERSION = 1
# Note in `FittedFile.about` of the members' fingerprints; see `nucleus.ensemble.fingerprints`.
FINGERPRINTS = "fingerprints"

_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True)
class Combination:
    """Choice of an ensemble among its members' nuclei in one image.

    Attributes:
        labels: int32 `[H, W]`, 0 background, 1..N one nucleus each.
        scores: float32 `[N]`, the predicted IoU of each nucleus with the truth, 0..1.
        picked: Name of the member that each of the N nuclei is from.
    """

    labels: np.ndarray
    scores: np.ndarray
    picked: tuple[str, ...]


@dataclass(frozen=True)
class Rules:
    """Rules by which masks are chosen, given their predicted IoU; see `nucleus.ensemble.selection.select`.

    Attributes:
        threshold: Minimum predicted IoU of a mask that is kept.
        nms_threshold: IoU with a better mask above which a mask is dropped.
        least_visible: Minimum fraction of a mask that better ones leave uncovered.
    """

    threshold: float = 0.3
    nms_threshold: float = NMS_THRESHOLD
    least_visible: float = LEAST_VISIBLE

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"{name} must be a number in 0..1. Received: {value!r}")

    def select(self, candidates: Candidates, quality: np.ndarray) -> Selection:
        """Chooses masks.

        Args:
            candidates: The N masks of all members.
            quality: float64 `[N]`, higher for better masks, such as their IoU with the truth.
        """
        return select(candidates, quality, self.threshold, self.nms_threshold, self.least_visible)

    def combine(self, candidates: Candidates, quality: np.ndarray) -> Combination:
        """Chooses masks and paints them.

        Args:
            candidates: The N masks of all members.
            quality: float64 `[N]` in 0..1, the predicted IoU of each mask with the truth.
        """
        selection = self.select(candidates, quality)
        return Combination(
            labels=selection.labels,
            scores=quality[selection.chosen].astype(np.float32),
            picked=tuple(candidates.members[number] for number in candidates.member[selection.chosen]),
        )


@dataclass(frozen=True, kw_only=True)
class FittedFile(ABC):
    """Content of the file of a model that was fitted to what other models, its members, find.

    Attributes:
        format: Entry of the file that tells its kind.
        about: Notes on the fit and its scores, JSON-compatible.
        weights: Source of each member: its file relative to the fitted model's file, or "model:" and a name that
            `nucleus.load_model` knows; empty where that is not known.
        settings: Settings that differ from the defaults and that the other attributes do not hold.
    """

    format: ClassVar[str]

    about: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Name -> fingerprint of each member that was one known model at the fit; empty in files that note none."""
        return self.about.get(FINGERPRINTS, {})

    @property
    @abstractmethod
    def choice(self) -> Ensemble:
        """Ensemble that chooses among the masks."""

    @abstractmethod
    def content(self) -> dict[str, Any]:
        """Returns the content of the file as JSON can hold it."""

    def to_json(self) -> str:
        """Returns the content of the file."""
        return json.dumps(self.content())

    def digest(self) -> str:
        """Returns a SHA-256 of the content."""
        return f"sha256:{hashlib.sha256(self.to_json().encode()).hexdigest()}"

    def save(self, path: str | os.PathLike) -> None:
        """Writes the file.

        Args:
            path: File to write.

        Raises:
            OSError: The file cannot be written.
        """
        write_text(path, self.to_json() + "\n")

    @classmethod
    def _head(cls) -> dict[str, Any]:
        return {"format": cls.format, "version": _VERSION}

    def _notes(self) -> dict[str, Any]:
        sources = {"weights": dict(self.weights), "settings": dict(self.settings)}
        return {"about": dict(self.about), **{name: each for name, each in sources.items() if each}}

    @classmethod
    def _parse_notes(cls, content: Mapping[str, Any], *objects: str) -> dict[str, Any]:
        """Returns the three attributes in a file's content, whose format and version are checked.

        Args:
            content: The JSON object.
            objects: Names of further entries that must be objects.
        """
        if content.get("format") != cls.format:
            raise ValueError(f'its "format" is not "{cls.format}"')
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']!r}; this program reads {_VERSION}")
        notes = {"about": content["about"], "settings": content.get("settings", {})}
        checked = {**notes, **{name: content[name] for name in objects}}
        if not all(isinstance(each, dict) for each in checked.values()):
            raise ValueError(f"{', '.join(checked)} must be objects")
        if not isinstance(notes["about"].get(FINGERPRINTS, {}), dict):
            raise ValueError(f'"{FINGERPRINTS}" of "about" must be an object')
        return {**notes, "weights": content.get("weights", {})}

    @staticmethod
    def _check_sources(weights: Any, members: Collection[str]) -> None:
        """Raises ValueError unless `weights` is empty or names a source for every member."""
        valid = isinstance(weights, dict) and all(isinstance(source, str) and source for source in weights.values())
        if not valid or (weights and set(weights) != set(members)):
            raise ValueError('"weights" must name a file for every member')


@dataclass(frozen=True)
class Ensemble(FittedFile):
    """Fitted ensemble: predicts the IoU of each member's masks with the truth and keeps the best masks.

    The ensemble of "Nuclei segmentation using computer vision", Vuola, 2019, section 4.3.

    Attributes:
        members: Names of the models.
        groups: Groups of features, of `nucleus.ensemble.features.GROUPS`.
        models: Trees of each of the averaged models.
        rules: Rules by which masks are chosen.
        about, weights, settings: Attributes of `FittedFile`.
    """

    format: ClassVar[str] = "nucleus ensemble"

    members: tuple[str, ...]
    groups: tuple[str, ...]
    models: tuple[tuple[Tree, ...], ...]
    rules: Rules = field(default_factory=Rules)

    @property
    def choice(self) -> Ensemble:
        """The ensemble itself."""
        return self

    def quality(self, candidates: Candidates, image: np.ndarray) -> np.ndarray:
        """Predicts the IoU of each mask with the nucleus that it fits best.

        Args:
            candidates: Masks of this ensemble's members.
            image: uint8 `[H, W, 3]` RGB, as read.

        Returns:
            float64 `[N]` in 0..1.
        """
        features = feature_table(candidates, image, self.groups)
        return np.clip(predict_mean(self.models, features), 0, 1)

    def combine(self, image: np.ndarray, predictions: Mapping[str, Prediction]) -> Combination:
        """Chooses among the nuclei that the members found in an image.

        Args:
            image: uint8 `[H, W, 3]` RGB, as `nucleus.images.reading.read_image` returns it.
            predictions: (labels, scores) by member, see `nucleus.ensemble.candidates.gather`.

        Returns:
            The `Combination`.

        Raises:
            ValueError: The members are not this ensemble's, or their predictions do not fit.
        """
        check_members(self.members, predictions)
        candidates = gather({name: predictions[name] for name in self.members})
        return self.rules.combine(candidates, self.quality(candidates, image))

    def content(self) -> dict[str, Any]:
        """Returns the content of the ensemble's file as JSON can hold it."""
        return {
            **self._head(),
            "members": list(self.members),
            "groups": list(self.groups),
            # The columns at the time of the fit: another version of this project may compute others.
            "features": feature_names(self.groups, self.members),
            "rules": asdict(self.rules),
            **self._notes(),
            "models": [[tree.to_json() for tree in trees] for trees in self.models],
        }


def read_fitted(path: str | os.PathLike, what: str, parse: Callable[[Mapping[str, Any]], _Parsed]) -> _Parsed:
    """Reads a fitted model's file.

    Args:
        path: The JSON file.
        what: Beginning of the error where it is none, such as "not an ensemble's file".
        parse: Function from the JSON object to the fitted model.

    Raises:
        ValueError: The file cannot be read or is damaged; the message names it.
    """
    content = read_json(path, what)
    with reading(path, what):
        return parse(content)


def file_format(path: str | os.PathLike) -> str | None:
    """Returns the format entry of a JSON file; None for a file without one.

    Args:
        path: The file.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError):
        return None
    found = content.get("format") if isinstance(content, dict) else None
    return found if isinstance(found, str) else None


def check_members(expected: tuple[str, ...], given: Mapping[str, Any]) -> None:
    """Raises an error if the members are not those that an ensemble was fitted with.

    Args:
        expected: Names of the members of the fit.
        given: What is given now, by name.

    Raises:
        ValueError: The members differ.
    """
    if set(expected) != set(given):
        raise ValueError(f"The ensemble was fitted with {', '.join(expected)}. Received: {', '.join(given) or 'none'}")


def read_ensemble(path: str | os.PathLike) -> Ensemble:
    """Reads an ensemble from a file that `Ensemble.save` wrote.

    Args:
        path: The JSON file.

    Raises:
        ValueError: The file cannot be read, holds no ensemble, is damaged, or needs features that this version does not
            compute.

    Examples:
        An ensemble that gives every nucleus of its two members a predicted IoU of 0.8, written and read again:

        >>> import tempfile
        >>> no_split = np.zeros(0, np.int64)
        >>> tree = Tree(no_split, np.zeros(0), no_split, no_split, value=np.array([0.8]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Ensemble(("unet", "otsu"), ("shape",), ((tree,),)).save(Path(folder, "ensemble.json"))
        ...     ensemble = read_ensemble(Path(folder, "ensemble.json"))
        >>> labels = np.zeros((64, 64), np.int32)
        >>> labels[10:30, 10:30] = 1
        >>> found = {"unet": Prediction(labels, np.array([0.9])), "otsu": Prediction(0 * labels, np.zeros(0))}
        >>> combined = ensemble.combine(np.zeros((64, 64, 3), np.uint8), found)
        >>> combined.picked, combined.scores.round(2), int(combined.labels.max())
        (('unet',), array([0.8], dtype=float32), 1)
    """
    return read_fitted(path, "not an ensemble's file", parse_ensemble)


def parse_ensemble(content: Mapping[str, Any]) -> Ensemble:
    """Returns the ensemble of what `Ensemble.content` returned.

    Args:
        content: The JSON object.

    Raises:
        ValueError: It is no ensemble, or needs features that this version does not compute. Damaged content raises
            other errors too; see `trainkit.reading.reading`.
    """
    notes = Ensemble._parse_notes(content, "rules")
    members, groups = _names(content["members"], "members"), _names(content["groups"], "groups")
    Ensemble._check_sources(notes["weights"], members)
    expected = feature_names(groups, members)
    if content["features"] != expected:
        raise ValueError(f"it was fitted with other features than the {len(expected)} that this version computes")
    models = content["models"]
    if not isinstance(models, list) or not models or not all(isinstance(trees, list) for trees in models):
        raise ValueError('"models" must be a list of lists of trees, one at least')
    return Ensemble(
        members=members,
        groups=groups,
        models=tuple(tuple(Tree.from_json(tree, len(expected)) for tree in trees) for trees in models),
        rules=Rules(**content["rules"]),
        **notes,
    )


def _names(values: Any, what: str) -> tuple[str, ...]:
    valid = isinstance(values, list) and values and all(isinstance(value, str) and value for value in values)
    if not valid or len(set(values)) != len(values):
        raise ValueError(f'"{what}" must be a list of different names')
    return tuple(values)
