"""Image files that a run is given: those of folders, without what is none of them and without repetitions."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.plain_files import image_files
from nucleus.images.decoding import NO_CHOICE, Planes

_log = logging.getLogger(__name__)


def collect_images(
    paths: Iterable[str | os.PathLike] | str | os.PathLike,
    planes: Planes = NO_CHOICE,
    pixel_size: float | None = None,
    recursive: bool = False,
) -> tuple[NucleusDataset, list[str]]:
    """Gathers image files and the images of folders.

    Of folders, what programs write beside images is left out, and so are folders of results, see
    `nucleus.datasets.plain_files.image_files`. A file that is met again, also by a link to it, counts once. Warnings
    say what was left out.

    Args:
        paths: Image files and folders of them.
        planes: Choice of channel, plane and frame in files that hold several.
        pixel_size: Side of a pixel in µm, for measurements; None for what each file says.
        recursive: True to take the images of all folders in the given ones, too.

    Returns:
        dataset: Prepared data set of the images that were found; see `NucleusDataset.load_images` for their ids.
        failures: One message for each path without an image.
    """
    dataset, failures, seen = NucleusDataset(planes=planes, pixel_size=pixel_size), [], {}
    again: list[tuple[Path, Path]] = []
    for path in map(Path, [paths] if isinstance(paths, str | os.PathLike) else paths):
        try:
            files = image_files(path, recursive)
        except DatasetError as error:
            failures.append(str(error))
            continue
        new = []
        for file in files:
            status = file.stat()
            key = status.st_dev, status.st_ino
            if key in seen:
                again.append((file, seen[key]))
            else:
                seen[key] = file
                new.append(file)
        dataset.load_images(new)
    links = [(file, first) for file, first in again if os.path.abspath(file) != os.path.abspath(first)]
    if links:
        _log.warning(
            "left out %s that %s counted already: %s is %s%s",
            *(("1 file", "is") if len(links) == 1 else (f"{len(links)} files", "are")),
            *links[0],
            "" if len(links) == 1 else ", ...",
        )
    dataset.prepare()
    return dataset, failures


def default_folder(paths: Iterable[str | os.PathLike] | str | os.PathLike) -> Path | None:
    """Returns the folder of results that stands beside what is given.

    Args:
        paths: Image files and folders of them.

    Returns:
        `FOLDER_nuclei` beside one folder, `IMAGE_nuclei` beside one image file (its name without suffix), and
        `FOLDER_nuclei` beside the folder that several files are all in; None for anything else.

    Examples:
        >>> print(default_folder(["plate/a.tif", "plate/b.tif"]).name)
        plate_nuclei
    """
    given = [Path(os.path.abspath(path)) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    if len(given) == 1:
        (path,) = given
        return path.with_name(f"{path.name if path.is_dir() else path.stem}_nuclei") if path.name else None
    parents = {path.parent for path in given}
    if len(parents) != 1 or any(path.is_dir() for path in given):
        return None
    (folder,) = parents
    return folder.with_name(f"{folder.name}_nuclei") if folder.name else None
