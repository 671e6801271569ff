"""Fitted ensembles: their contents, their file, and their choice among nuclei."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nucleus.ensemble.candidates import Candidates, gather
from nucleus.ensemble.features import describe_masks, feature_names
from nucleus.ensemble.selection import LEAST_VISIBLE, NMS_THRESHOLD, Selection, select
from nucleus.ensemble.trees import Tree, predict_mean
from nucleus.models.base import Prediction
from trainkit.files import write_text
from trainkit.reading import read_json, reading

_FORMAT = "nucleus ensemble"
# To be incremented when the file format or the meaning of a feature changes.
_VERSION = 1
# Note in `Ensemble.about` of the members' fingerprints; see `nucleus.ensemble.fingerprints`.
FINGERPRINTS = "fingerprints"


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


@dataclass(frozen=True)
class Ensemble:
    """Fitted ensemble: predicts the IoU of each member's masks with the truth and keeps the best masks.

    The ensemble of "Nuclei segmentation using computer vision", Vuola, 2019, section 4.3.

    Attributes:
        members: Names of the models.
        groups: Groups of features, of `nucleus.ensemble.features.GROUPS`.
        models: Trees of each of the averaged models.
        rules: Rules by which masks are chosen.
        about: Notes on the fit and its scores, JSON-compatible.
        weights: Source of each member: its file relative to the ensemble's file, or "model:" and a name that
            `nucleus.load_model` knows; empty where that is not known.
        settings: Settings that differ from the defaults and that the other attributes do not hold.
    """

    members: tuple[str, ...]
    groups: tuple[str, ...]
    models: tuple[tuple[Tree, ...], ...]
    rules: Rules = field(default_factory=Rules)
    about: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Name -> fingerprint of each member that was one known model at the fit; empty in files that note none."""
        return self.about.get(FINGERPRINTS, {})

    def quality(self, candidates: Candidates, image: np.ndarray) -> np.ndarray:
        """Predicts the IoU of each mask with the nucleus that it fits best.

        Args:
            candidates: Masks of this ensemble's members.
            image: uint8 `[H, W, 3]` RGB, as read.

        Returns:
            float64 `[N]` in 0..1.
        """
        columns = describe_masks(candidates, image)
        features = np.stack([columns[name] for name in feature_names(self.groups, self.members)], axis=1)
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

    def save(self, path: str | os.PathLike) -> None:
        """Writes the ensemble as JSON.

        Args:
            path: File to write.

        Raises:
            OSError: The file cannot be written.
        """
        write_text(path, self.to_json() + "\n")

    def to_json(self) -> str:
        """Returns the content of the ensemble's file."""
        return json.dumps(self.content())

    def content(self) -> dict[str, Any]:
        """Returns the content of the ensemble's file as JSON can hold it."""
        return {
            "format": _FORMAT,
            "version": _VERSION,
            "members": list(self.members),
            "groups": list(self.groups),
            # The columns at the time of the fit: another version of this project may compute others.
            "features": feature_names(self.groups, self.members),
            "rules": asdict(self.rules),
            "about": dict(self.about),
            **({"weights": dict(self.weights)} if self.weights else {}),
            **({"settings": dict(self.settings)} if self.settings else {}),
            "models": [[tree.to_json() for tree in trees] for trees in self.models],
        }


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


def is_ensemble(path: str | os.PathLike) -> bool:
    """Returns whether a JSON file is that of an ensemble, judged by its format entry.

    Args:
        path: The JSON file.

    Raises:
        OSError: The file cannot be read.
    """
    return has_format(path, _FORMAT)


def has_format(path: str | os.PathLike, name: str) -> bool:
    """Returns whether a file is JSON with the given format entry.

    Args:
        path: The file.
        name: Value of the entry.

    Raises:
        OSError: The file cannot be read.
    """
    try:
        content = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and content.get("format") == name


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
    what = "not an ensemble's file"
    content = read_json(path, what)
    with reading(path, what):
        return parse_ensemble(content)


def parse_ensemble(content: Mapping[str, Any]) -> Ensemble:
    """Returns the ensemble of what `Ensemble.content` returned.

    Args:
        content: The JSON object.

    Raises:
        ValueError: It is no ensemble, or needs features that this version does not compute. Damaged content raises
            other errors too; see `trainkit.reading.reading`.
    """
    if content.get("format") != _FORMAT:
        raise ValueError(f'its "format" is not "{_FORMAT}"')
    if content["version"] != _VERSION:
        raise ValueError(f"version {content['version']!r}; this program reads {_VERSION}")
    members, groups = _names(content["members"], "members"), _names(content["groups"], "groups")
    expected = feature_names(groups, members)
    if content["features"] != expected:
        raise ValueError(f"it was fitted with other features than the {len(expected)} that this version computes")
    models = content["models"]
    if not isinstance(models, list) or not models or not all(isinstance(trees, list) for trees in models):
        raise ValueError('"models" must be a list of lists of trees, one at least')
    settings = content.get("settings", {})
    if not all(isinstance(each, dict) for each in (content["about"], content["rules"], settings)):
        raise ValueError('"about", "rules" and "settings" must be objects')
    if not isinstance(content["about"].get(FINGERPRINTS, {}), dict):
        raise ValueError(f'"{FINGERPRINTS}" of "about" must be an object')
    return Ensemble(
        members=members,
        groups=groups,
        models=tuple(tuple(Tree.from_json(tree, len(expected)) for tree in trees) for trees in models),
        rules=Rules(**content["rules"]),
        about=content["about"],
        weights=_weights(content.get("weights", {}), members),
        settings=settings,
    )


def _weights(files: Any, members: tuple[str, ...]) -> dict[str, str]:
    valid = isinstance(files, dict) and all(isinstance(file, str) and file for file in files.values())
    if not valid or (files and set(files) != set(members)):
        raise ValueError('"weights" must name a file for every member')
    return files


def _names(values: Any, what: str) -> tuple[str, ...]:
    valid = isinstance(values, list) and values and all(isinstance(value, str) and value for value in values)
    if not valid or len(set(values)) != len(values):
        raise ValueError(f'"{what}" must be a list of different names')
    return tuple(values)
