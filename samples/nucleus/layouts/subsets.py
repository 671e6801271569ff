"""What a subset's name means, in any layout.

* The name of a part is that part.
* "all" is all parts together, unless the layout has a part of that name.
* "train" and "val": where there is no part "val", a fifth of "train" is set aside as "val", chosen by a hash of the
  image ids, and "train" is the rest. Where there is no part "train" either, "all" is split so.
* "a+b" is both.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from nucleus.layouts.base import DatasetError, Part, Report, Sample

_HELD_OUT = 5


def read_subset(parts: Mapping[str, Part], subset: str, root: Path, report: Report) -> list[Sample]:
    """Reads the samples of a subset, by the rules at the top of this module.

    Args:
        parts: the parts of a data set.
        subset: the name of the subset.
        root: the data set, for messages.
        report: takes what is wrong with single images.

    Raises:
        DatasetError: there is no such subset, it is empty, or an image's id occurs twice in it.
    """
    names = [subset] if subset in parts else subset.split("+")
    samples = [sample for name in names for sample in _read(parts, name.strip(), root, report)]
    seen: dict[str, Sample] = {}
    for sample in samples:
        first = seen.setdefault(sample.id, sample)
        if first is not sample:
            raise DatasetError(f"{sample.image}: its id {sample.id!r} is also that of {first.image}")
    return samples


def held_out(samples: list[Sample]) -> set[str]:
    """Ids of the fifth of the samples that is set aside for validation, one at least; the order does not matter."""
    ordered = sorted((sample.id for sample in samples), key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(ordered[: max(1, round(len(ordered) / _HELD_OUT))])


def _read(parts: Mapping[str, Part], name: str, root: Path, report: Report) -> list[Sample]:
    if name in ("train", "val") and "val" not in parts:
        base = "train" if "train" in parts else "all"
        samples = _read_part(parts, base, root, report)
        if len(samples) < 2:
            raise DatasetError(f"{root}: {len(samples)} images cannot be split into train and val")
        aside = held_out(samples)
        return [sample for sample in samples if (sample.id in aside) == (name == "val")]
    return _read_part(parts, name, root, report)


def _read_part(parts: Mapping[str, Part], name: str, root: Path, report: Report) -> list[Sample]:
    if name in parts:
        return parts[name](report)
    if name == "all":
        return [sample for part in parts.values() for sample in part(report)]
    known = ", ".join(dict.fromkeys(["all", "train", "val", *parts]))
    raise DatasetError(f"{root}: there is no subset {name!r}; there are {known}")
