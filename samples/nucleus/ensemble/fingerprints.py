"""Fingerprints of an ensemble's members, by which other models under the same names are noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nucleus.models.base import NucleusModel
from nucleus.models.settings import ViewSettings
from nucleus.prediction.folders import PredictionFolder

# Nested descriptions of `NucleusModel.describe`: of networks that are averaged, and of an ensemble's members.
_NESTED = ("models", "members")


def model_fingerprint(description: Mapping[str, Any]) -> str:
    """Returns the fingerprint of a model: that of its weights, else that of everything that its predictions depend on.

    Test-time augmentation, scale and tiles around a model do not change it: an ensemble's file notes the views by
    themselves, and scale and tiles go with the images.

    Args:
        description: Description by `NucleusModel.describe`, as it is or as a `manifest.json` holds it.

    Returns:
        "sha256:" and the digest. The same model has the same one, whether it runs or has written a folder of
        predictions.
    """
    if "model" in description:
        return model_fingerprint(description["model"])
    if "weights" in description:
        return description["weights"]
    facts = dict(description)
    if "settings" in facts:
        views = ViewSettings().to_dict()
        facts["settings"] = {name: value for name, value in facts["settings"].items() if name not in views}
    for name in _NESTED:
        if name in facts:
            every = facts[name].items() if isinstance(facts[name], Mapping) else enumerate(facts[name])
            facts[name] = [(str(key), model_fingerprint(each)) for key, each in every]
    return f"sha256:{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()}"


def fingerprints(members: Mapping[str, NucleusModel | PredictionFolder]) -> dict[str, str]:
    """Returns the fingerprints of members.

    Args:
        members: Name -> model, or folders of its predictions.

    Returns:
        Name -> fingerprint. Members whose folders do not say which model made them are left out, and those of several
        models, such as the folds of a cross-validation, which no one model is.
    """
    found = {}
    for name, member in members.items():
        models = member.models() if isinstance(member, PredictionFolder) else [member.describe()]
        every = {model_fingerprint(model) for model in models}
        if len(every) == 1:
            found[name] = every.pop()
    return found


def exchanged(noted: Mapping[str, str], members: Mapping[str, NucleusModel | PredictionFolder]) -> list[str]:
    """Returns the names of the members that are known to be other models than those noted.

    Args:
        noted: Name -> fingerprint of the members that an ensemble was fitted to.
        members: Name -> model, or folders of its predictions.
    """
    given = fingerprints({name: member for name, member in members.items() if name in noted})
    return [name for name, each in given.items() if each != noted[name]]
