"""Image files that a run is given: those of folders, without what is none of them and without repetitions."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.layouts.label_files import split_by_products
from nucleus.images.decoding import NO_CHOICE, Planes
from nucleus.images.reading import IMAGE_SUFFIXES, list_images
from nucleus.prediction.manifest import MANIFEST_FILE

_log = logging.getLogger(__name__)


def collect_images(
    paths: Iterable[str | os.PathLike] | str | os.PathLike,
    planes: Planes = NO_CHOICE,
    pixel_size: float | None = None,
    recursive: bool = False,
) -> tuple[NucleusDataset, list[str]]:
    """Gathers image files and the images of folders.

    Of folders, what programs write beside images is left out, see
    `nucleus.datasets.layouts.label_files.split_by_products`, and so are folders of results of this program. A file that
    is met again, also by a link to it, counts once. Warnings say what was left out.

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
            for file in _find_images(path, recursive) if path.is_dir() else [path]:
                status = file.stat() if file.exists() else None
                key = (status.st_dev, status.st_ino) if status else file
                if key in seen:
                    again.append((file, seen[key]))
                    continue
                dataset.load_images(file)
                seen[key] = file
        except DatasetError as error:
            failures.append(str(error))
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


def _find_images(folder: Path, recursive: bool) -> list[Path]:
    """Returns the images of a folder; raises DatasetError where there is none."""
    found, by_products, results = [], [], []
    for each in _walk(folder) if recursive else [folder]:
        if each != folder and (each / MANIFEST_FILE).is_file():
            results.append(each)
            continue
        images, others = split_by_products(list_images(each))
        found += images
        by_products += others
    left_out = _left_out(
        by_products, "file that programs write beside images", "files that programs write beside images"
    )
    left_out += _left_out(results, "folder of results", "folders of results")
    if not found:
        where = "in this folder and those in it" if recursive else "directly in this folder (--recursive goes deeper)"
        what = f"no image file ({', '.join(IMAGE_SUFFIXES)}) is {where}"
        raise DatasetError("; ".join([f"{folder}: {what}", *left_out]))
    if left_out:
        _log.warning("%s: %s; a file that is named itself is taken", folder, "; ".join(left_out))
    return found


def _walk(folder: Path) -> Iterator[Path]:
    """Yields a folder and all folders in it, by name, without hidden ones and what is in folders of results.

    Links to folders are followed, each folder once.
    """
    seen: set[tuple[int, int]] = set()
    for name, folders, _ in os.walk(folder, followlinks=True):
        status = os.stat(name)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        is_results = Path(name) != folder and (Path(name) / MANIFEST_FILE).is_file()
        folders[:] = [] if is_results else sorted(each for each in folders if not each.startswith("."))
        yield Path(name)


def _left_out(paths: list[Path], one: str, several: str) -> list[str]:
    if not paths:
        return []
    return [
        f"left out 1 {one} ({paths[0].name})"
        if len(paths) == 1
        else f"left out {len(paths)} {several} ({paths[0].name}, ...)"
    ]
