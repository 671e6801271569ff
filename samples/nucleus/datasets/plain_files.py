"""Plain image files outside of any data set's layout: those of a folder, and names for them."""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from nucleus.datasets.layouts.base import DatasetError
from nucleus.datasets.layouts.label_files import split_by_products
from nucleus.datasets.provenance import MANIFEST_FILE
from nucleus.images.reading import IMAGE_SUFFIXES, is_image_path, list_images

_log = logging.getLogger(__name__)


def image_files(path: Path, recursive: bool = False) -> list[Path]:
    """Returns the image files that a path means: itself, or those in the folder.

    What programs write beside images (`nucleus.datasets.layouts.label_files.split_by_products`) is left out of a
    folder, and so are folders in it with results of this program; a warning counts both.

    Args:
        path: An image file or a folder.
        recursive: True to take the images of all folders in the folder, too.

    Raises:
        DatasetError: The path is missing, or the folder holds no image file.
    """
    if not path.is_dir() or is_image_path(path):
        if not path.exists():
            raise DatasetError(f"{path}: there is no such file or folder")
        return [path]
    found, by_products, results = [], [], []
    for each in _walk(path) if recursive else [path]:
        if each != path and (each / MANIFEST_FILE).is_file():
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
        where = "in this folder and those in it" if recursive else "directly in this folder"
        what = f"no image file ({', '.join(IMAGE_SUFFIXES)}) is {where}"
        raise DatasetError("; ".join([f"{path}: {what}", *left_out]))
    if left_out:
        _log.warning("%s: %s; a file that is named itself is taken", path, "; ".join(left_out))
    return found


def unused_name(name: str, taken: set[str]) -> str:
    """Returns a name that is not taken yet, with "-2", "-3", ... behind it if needed, and adds it to the taken ones.

    Args:
        name: The wanted name.
        taken: Names in use; changed.

    Examples:
        >>> unused_name("cells", {"cells", "cells-2"})
        'cells-3'
    """
    candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    free = next(candidate for candidate in candidates if candidate not in taken)
    taken.add(free)
    return free


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
