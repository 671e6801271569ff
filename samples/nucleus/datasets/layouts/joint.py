"""Several data sets as one: a JSON file NAME.sets.json that lists them.

    {
      "validation": "validation.csv",
      "sets": {
        "dsb2018": {"path": "dsb2018", "subset": "stage1_train"},
        "tnbc": {"path": "tnbc", "modality": "h&e", "prefix": "tnbc-"}
      }
    }

`path` counts from the folder of the file; `subset` is "all" by default; `modality` is that of images whose data set
does not record it; `prefix` is put in front of the ids, where two sets share some. `validation`, which may be left out,
is a table with the columns set and stem.

Parts are "all", each set under its name, and, where there is a table, "train" and "val" and those of each set
(`tnbc-val`): the images that the table names are validation images, all others are for training. Every set may be in
any other layout, and the `classes.csv` in its folder has the modalities. The name of its set is an image's
collection.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nucleus.datasets.layouts.base import UNKNOWN_MODALITY, DatasetError, Layout, Part, Report, Sample
from nucleus.datasets.layouts.tables import CLASSES_FILE, read_modalities, read_table
from trainkit.reading import read_json

NAME = "joint"
SUFFIX = ".sets.json"
# Names of parts that a set cannot have.
_RESERVED = ("all", "train", "val", "test")

# Reads a subset of a data set: folder, subset, layout (None), report.
ReadSamples = Callable[[Path, str, None, Report], list[Sample]]


@dataclass(frozen=True)
class _Set:
    """One of the data sets.

    Attributes:
        name: Key of the data set in the file.
        path: Folder of the data set, or its one file.
        subset: Subset of the data set.
        modality: Modality of images whose data set does not record it.
        prefix: Text put in front of the ids.
        held_out: Ids, without prefix, of the validation images.
    """

    name: str
    path: Path
    subset: str = "all"
    modality: str = UNKNOWN_MODALITY
    prefix: str = ""
    held_out: frozenset[str] = frozenset()


def make_layout(read_samples: ReadSamples) -> Layout:
    """Returns the layout of several data sets as one.

    Args:
        read_samples: Function that reads a single data set, `nucleus.datasets.layouts.read_samples`.
    """
    return Layout(NAME, f"a file *{SUFFIX} that lists several data sets", _recognises, partial(_parts, read_samples))


def _recognises(root: Path) -> bool:
    return root.name.lower().endswith(SUFFIX) and root.is_file()


def _parts(read_samples: ReadSamples, root: Path) -> Mapping[str, Part]:
    sets, divided = _read_file(root)
    parts: dict[str, Part] = {"all": partial(_read, read_samples, root, sets, None)}
    parts |= {one.name: partial(_read, read_samples, root, [one], None) for one in sets}
    if divided:
        for name, held_out in (("train", False), ("val", True)):
            parts[name] = partial(_read, read_samples, root, sets, held_out)
            parts |= {f"{one.name}-{name}": partial(_read, read_samples, root, [one], held_out) for one in sets}
    return parts


def _read(
    read_samples: ReadSamples, root: Path, sets: Collection[_Set], held_out: bool | None, report: Report
) -> list[Sample]:
    """Reads sets whole, or only their validation images, or all others."""
    found = []
    for one in sets:
        samples = read_samples(one.path, one.subset, None, report)
        absent = one.held_out - {sample.id for sample in samples}
        if absent:
            raise DatasetError(f"{root}: the validation image {min(absent)} is not in {one.name} ({one.path})")
        if held_out is not None:
            samples = [sample for sample in samples if (sample.id in one.held_out) == held_out]
        folder = one.path if one.path.is_dir() else one.path.parent
        known = read_modalities(folder / CLASSES_FILE)
        found += [_belonging(sample, one, known) for sample in samples]
    return found


def _belonging(sample: Sample, one: _Set, known: Mapping[str, str]) -> Sample:
    modality = sample.modality
    if modality == UNKNOWN_MODALITY:
        modality = known.get(sample.id, one.modality)
    return replace(sample, id=one.prefix + sample.id, collection=one.name, modality=modality)


def _read_file(root: Path) -> tuple[list[_Set], bool]:
    """Returns the sets that a file names, and whether it divides them into training and validation images.

    Raises:
        DatasetError: The file cannot be read, or does not follow the format in the module's docstring.
    """
    content = read_json(root, "no JSON file", DatasetError)
    sets = content.get("sets")
    if not isinstance(sets, dict) or not sets or not set(content) <= {"sets", "validation"}:
        raise DatasetError(f'{root}: expected {{"sets": {{NAME: {{"path": ...}}}}}}, and at most "validation" besides')
    validation = content.get("validation")
    if validation is not None and not isinstance(validation, str):
        raise DatasetError(f"{root}: validation is the path of a CSV file; found {validation!r}")
    read = [_read_set(root, name, entry) for name, entry in sets.items()]
    if validation is None:
        return read, False
    return _with_held_out(read, root.parent / validation), True


def _read_set(root: Path, name: str, entry: object) -> _Set:
    allowed = ("path", "subset", "modality", "prefix")
    fits = isinstance(entry, dict) and "path" in entry and set(entry) <= set(allowed)
    if not fits or not all(isinstance(value, str) for value in entry.values()):
        raise DatasetError(f"{root}: expected {', '.join(allowed)} as text in {name!r}, of which path is needed")
    if name in _RESERVED or not name.strip() or set(name) & set("/\\+"):
        raise DatasetError(f"{root}: no set can be called {name!r}: {', '.join(_RESERVED)} and '/', '+' have a meaning")
    if set(entry.get("prefix", "")) & set("/\\\0"):
        raise DatasetError(f"{root}: the prefix of {name!r} may have no slash; found {entry['prefix']!r}")
    return _Set(name, **{**entry, "path": root.parent / entry["path"]})


def _with_held_out(sets: list[_Set], table: Path) -> list[_Set]:
    if not os.path.isfile(table):
        raise DatasetError(f"{table}: there is no such file")
    names = {one.name for one in sets}
    rows = read_table(table, ["set", "stem"])
    for line, row in rows:
        if row["set"] not in names:
            raise DatasetError(f"{table}, line {line}: there is no set {row['set']!r}; there are {', '.join(names)}")
    return [replace(one, held_out=frozenset(row["stem"] for _, row in rows if row["set"] == one.name)) for one in sets]
