"""Layouts of data sets in files, one module each; all of them are read as the same samples."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from nucleus.datasets.layouts import beside, coco, dsb2018, glas, joint, label_folders, rle_csv, via
from nucleus.datasets.layouts.base import DatasetError, Layout, Report, Sample, raise_error
from nucleus.datasets.layouts.subsets import count_parts, explain, read_subset

LAYOUTS = {module.LAYOUT.name: module.LAYOUT for module in (dsb2018, rle_csv, glas, label_folders, coco, via)}
LAYOUTS |= {layout.name: layout for layout in beside.LAYOUTS}
_log = logging.getLogger(__name__)


def read_samples(root: Path, subset: str, layout: str | None = None, report: Report = raise_error) -> list[Sample]:
    """Lists the samples of a subset of a data set.

    Args:
        root: Folder of the data set, or its one CSV or JSON file.
        subset: Name of the subset; see `nucleus.datasets.layouts.subsets` and the layout's module.
        layout: Key of `LAYOUTS`; None detects it.
        report: Function that is called with the error of each unusable image; by default the first one is raised.

    Returns:
        The samples, in the order of the data set.

    Raises:
        DatasetError: The data set or the subset is missing, empty, or not in the layout, or one of its files is
            malformed.
    """
    # To Path.exists a name that the system cannot have, such as a long one in a file of sets, is an error.
    if not os.path.exists(root):
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


def count_images(root: Path, layout: str | None = None) -> int:
    """Counts the images of all parts of a data set, with and without labels; unusable ones are left out.

    Args:
        root: Folder of the data set, or its one CSV or JSON file.
        layout: Key of `LAYOUTS`; None detects it.

    Raises:
        DatasetError: The data set is missing or not in the layout.
    """
    return count_parts((find_layout(root) if layout is None else _named(layout)).parts(root))


def explain_subset(root: Path, subset: str, layout: str | None = None) -> str:
    """Describes the rule by which the images of a subset are chosen; see `nucleus.datasets.layouts.subsets.explain`.

    Args:
        root: Folder of the data set, or its one CSV or JSON file.
        subset: Name of the subset.
        layout: Key of `LAYOUTS`; None detects it.

    Raises:
        DatasetError: The data set is missing or not in the layout.
    """
    return explain((find_layout(root, subset) if layout is None else _named(layout)).parts(root), subset, root)


LAYOUTS[joint.NAME] = joint.make_layout(read_samples)


def find_layout(root: Path, subset: str = "all") -> Layout:
    """Detects the layout of a data set from its files.

    Folders of the Data Science Bowl may hold other files, too: their masks take precedence over a CSV file of
    run-length codes, which takes precedence over such folders without masks. Where label images are, files that the
    same programs write beside them (`_seg.npy`, ROIs, ...) are not read, which a warning says.

    Args:
        root: Folder of the data set, or its one CSV or JSON file.
        subset: Name of the subset, for the error message.

    Raises:
        DatasetError: No layout matches, or several do.
    """
    found = [layout for layout in LAYOUTS.values() if layout.recognises(root)]
    if LAYOUTS[joint.NAME] in found:
        # Its file has a name of its own; to COCO's reader it is a JSON file like any other.
        return LAYOUTS[joint.NAME]
    if root.is_file() and via.LAYOUT in found:
        # Likewise: to the readers of COCO JSON and of run-length codes it is a JSON or CSV file like any other.
        return via.LAYOUT
    if dsb2018.LAYOUT in found and (found == [dsb2018.LAYOUT] or dsb2018.has_masks(root)):
        return dsb2018.LAYOUT
    if rle_csv.LAYOUT in found and dsb2018.LAYOUT in found:
        found.remove(dsb2018.LAYOUT)
    if label_folders.LAYOUT in found:
        drawn = [layout for layout in found if layout in beside.LAYOUTS]
        for layout in drawn:
            _log.warning("%s: its label images are read, and no others; --layout=%s reads those", root, layout.name)
            found.remove(layout)
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
