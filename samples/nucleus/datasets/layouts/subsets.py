"""Subsets of a data set by name, alike in every layout.

* The name of a part selects that part.
* "all" is all parts together, unless the layout has a part of that name.
* A part has the role "train", "val" or "test" if the words in its name (separated by anything but letters) include
  synonyms of exactly one of the three: train, training; val, valid, validation; test, testing. So train2017,
  stage1_train and Training have the role "train", and train_val has none. A part whose name is the role comes first.
* "train" and "val": if no part has the role "val", a fifth of "train", chosen by a hash of the image ids, becomes "val"
  and the rest "train". A data set of one part, or with a part "all", is split alike if none of its parts has a role.
  Several parts without a role are never split together, since they may hold test images.
* "a+b" is the union of "a" and "b".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from nucleus.datasets.layouts.base import DatasetError, Part, Report, Sample

_HELD_OUT = 5
_WORDS = {
    "train": {"train", "training"},
    "val": {"val", "valid", "validation"},
    "test": {"test", "testing"},
}


def read_subset(parts: Mapping[str, Part], subset: str, root: Path, report: Report) -> list[Sample]:
    """Lists the samples of a subset, by the rules at the top of this module.

    Args:
        parts: Readers of the data set's parts, by name.
        subset: Name of the subset.
        root: Path of the data set, for error messages.
        report: Function that is called with the error of each unusable image.

    Raises:
        DatasetError: The subset is unknown or empty, or an image's id occurs twice in it.
    """
    names = [subset] if subset in parts else subset.split("+")
    samples = [sample for name in names for sample in _read(parts, name.strip(), root, report)]
    seen: dict[str, Sample] = {}
    for sample in samples:
        first = seen.setdefault(sample.id, sample)
        if first is not sample:
            raise DatasetError(
                f"{sample.image}: its id {sample.id!r} is also that of {first.image}; an id names one image in tables, "
                f"folds and predictions. Rename one{_one_part_at_a_time(parts)}"
            )
    return samples


def count_parts(parts: Mapping[str, Part]) -> int:
    """Returns the number of images in all parts together; an image that is in several of them counts once.

    Args:
        parts: Readers of the data set's parts, by name.
    """
    return len({(sample.image, sample.id) for part in parts.values() for sample in part(lambda _: None)})


def explain(parts: Mapping[str, Part], subset: str, root: Path) -> str:
    """Describes the rule by which the images of a subset are chosen.

    Args:
        parts: Readers of the data set's parts, by name.
        subset: Name of the subset.
        root: Path of the data set, for error messages.

    Returns:
        The name of the subset and the rule, such as "val: a fifth, set aside by a hash of the ids, since no part of the
        data set is called val".

    Raises:
        DatasetError: Several parts could be meant.
    """
    names = [subset] if subset in parts else [name.strip() for name in subset.split("+")]
    return "; ".join(_rule(parts, name, root) for name in names)


def held_out(samples: list[Sample]) -> set[str]:
    """Returns the ids of a fifth of the samples, at least one, for validation, whatever their order."""
    ordered = sorted((sample.id for sample in samples), key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(ordered[: max(1, round(len(ordered) / _HELD_OUT))])


def role(part: str) -> str | None:
    """Returns the role of a part: "train", "val", "test" or None; see the rules at the top of this module."""
    words = set(re.findall(r"[^\W\d_]+", part.lower()))
    roles = [name for name, synonyms in _WORDS.items() if words & synonyms]
    return roles[0] if len(roles) == 1 else None


def _read(parts: Mapping[str, Part], name: str, root: Path, report: Report) -> list[Sample]:
    if name not in ("train", "val"):
        return _read_part(parts, name, root, report)
    part = _with_role(parts, name, root)
    if part is not None and (name == "val" or _with_role(parts, "val", root) is not None):
        return parts[part](report)
    samples = _read_part(parts, _to_split(parts, name, root), root, report)
    if len(samples) < 2:
        raise DatasetError(f"{root}: {len(samples)} images cannot be split into train and val")
    aside = held_out(samples)
    return [sample for sample in samples if (sample.id in aside) == (name == "val")]


def _rule(parts: Mapping[str, Part], name: str, root: Path) -> str:
    if name not in ("train", "val"):
        return name
    part, val = _with_role(parts, name, root), _with_role(parts, "val", root)
    if part is not None and val is not None:
        return name if part == name else f"{name}: the part {part}"
    share = "a fifth, set aside" if name == "val" else "all but a fifth, which is set aside"
    return f"{name}: {share} by a hash of the ids, since no part of the data set is called val"


def _one_part_at_a_time(parts: Mapping[str, Part]) -> str:
    if len(parts) < 2:
        return ""
    # A fifth of "train" becomes "val" if no part has the role "val".
    split = "train" in parts and "val" not in map(role, parts)
    names = ("train+val" if split and part == "train" else part for part in parts)
    return " or take one part at a time: " + ", ".join(f"--subset={name}" for name in names)


def _with_role(parts: Mapping[str, Part], name: str, root: Path) -> str | None:
    found = [name] if name in parts else [part for part in parts if role(part) == name]
    if len(found) > 1:
        raise DatasetError(f"{root}: the parts {', '.join(found)} could all be meant by {name!r}; name those to take")
    return found[0] if found else None


def _to_split(parts: Mapping[str, Part], name: str, root: Path) -> str:
    """Returns the name of the part that is divided into train and val."""
    train = _with_role(parts, "train", root)
    if train is not None:
        return train
    if ("all" in parts or len(parts) == 1) and not any(map(role, parts)):
        return "all"
    raise DatasetError(
        f"{root}: none of its parts stands for {name!r}; there are {', '.join(parts)}. Name those to take, or call "
        "them train, val and test"
    )


def _read_part(parts: Mapping[str, Part], name: str, root: Path, report: Report) -> list[Sample]:
    if name in parts:
        return parts[name](report)
    if name == "all":
        return [sample for part in parts.values() for sample in part(report)]
    known = ", ".join(dict.fromkeys(["all", "train", "val", *parts]))
    raise DatasetError(f"{root}: there is no subset {name!r}; there are {known}")
