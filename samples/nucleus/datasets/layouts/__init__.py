"""The ways that data sets are laid out in files, a module each; what comes out of all of them are the same samples."""

from __future__ import annotations

from pathlib import Path

from nucleus.datasets.layouts import coco, dsb2018, glas, joint, label_folders, rle_csv
from nucleus.datasets.layouts.base import DatasetError, Layout, Report, Sample, raise_error
from nucleus.datasets.layouts.subsets import read_subset

LAYOUTS = {module.LAYOUT.name: module.LAYOUT for module in (dsb2018, rle_csv, glas, label_folders, coco)}


def read_samples(root: Path, subset: str, layout: str | None = None, report: Report = raise_error) -> list[Sample]:
    """Reads which images a subset of a data set has.

    Args:
        root: the folder of the data set, or its one CSV or JSON file.
        subset: see `nucleus.datasets.layouts.subsets` and the layout's module.
        layout: a name in `LAYOUTS`; None for that of `find_layout`.
        report: takes what is wrong with single images; by default the first such error is raised.

    Returns:
        The samples, in the order of the data set.

    Raises:
        DatasetError: the data set or the subset is missing, empty, or not in the layout, or a file of it is
            malformed.
    """
    if not root.exists():
        raise DatasetError(f"{root}: there is no such folder or file")
    reader = find_layout(root, subset) if layout is None else _named(layout)
    if layout is not None and root.is_file() and not reader.recognises(root):
        raise DatasetError(f"{root}: is a file; the layout {layout} needs a folder")
    failed: list[DatasetError] = []

    def note(error: DatasetError) -> None:
        failed.append(error)
        report(error)

    samples = read_subset(reader.parts(root), subset, root, note)
    if not samples and not failed:
        raise DatasetError(f"{root}: no image of the subset {subset!r} is in it ({reader.name}: {reader.summary})")
    return samples


LAYOUTS[joint.NAME] = joint.make_layout(read_samples)


def find_layout(root: Path, subset: str = "all") -> Layout:
    """Tells a data set's layout by what is there.

    Folders of the Data Science Bowl may hold anything besides; their masks come before a CSV file with codes, and that
    file comes before folders without masks.

    Args:
        root: the folder of the data set, or its one CSV or JSON file.
        subset: what is looked for, for the message.

    Raises:
        DatasetError: no layout fits, or several do.
    """
    found = [layout for layout in LAYOUTS.values() if layout.recognises(root)]
    if LAYOUTS[joint.NAME] in found:
        # Its file is told by its name; to COCO's reader it is a JSON file like any other.
        return LAYOUTS[joint.NAME]
    if dsb2018.LAYOUT in found and (found == [dsb2018.LAYOUT] or dsb2018.has_masks(root)):
        return dsb2018.LAYOUT
    if rle_csv.LAYOUT in found and dsb2018.LAYOUT in found:
        found.remove(dsb2018.LAYOUT)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(layout.name for layout in found)
        raise DatasetError(f"{root}: could be any of the layouts {names}; say which it is (--layout)")
    known = "; ".join(f"{layout.name}: {layout.summary}" for layout in LAYOUTS.values())
    raise DatasetError(f"{root}: no data set is in it to take the subset {subset!r} from. Layouts: {known}")


def _named(name: str) -> Layout:
    if name not in LAYOUTS:
        raise DatasetError(f"there is no layout {name!r}; there are {', '.join(LAYOUTS)}")
    return LAYOUTS[name]
