"""Plain image files outside of any data set's layout: those of a folder, and names for them."""

from __future__ import annotations

import itertools
import logging
from pathlib import Path

from nucleus.datasets.layouts.base import DatasetError
from nucleus.datasets.layouts.label_files import split_by_products
from nucleus.images.reading import IMAGE_SUFFIXES, list_images

_log = logging.getLogger(__name__)


def image_files(path: Path) -> list[Path]:
    """Returns the image files that a path means: itself, or those directly in the folder.

    What programs write beside images (`nucleus.datasets.layouts.label_files.split_by_products`) is left out of a
    folder, and a warning counts it.

    Args:
        path: An image file or a folder.

    Raises:
        DatasetError: The path is missing, or the folder holds no image file.
    """
    if not path.is_dir():
        if not path.exists():
            raise DatasetError(f"{path}: there is no such file or folder")
        return [path]
    found, by_products = split_by_products(list_images(path))
    left_out = ""
    if by_products:
        files = "file" if len(by_products) == 1 else "files"
        left_out = f"left out {len(by_products)} {files} that programs write beside images ({by_products[0].name}"
        left_out += ")" if len(by_products) == 1 else ", ...)"
    if not found:
        what = f"no image file ({', '.join(IMAGE_SUFFIXES)}) is directly in this folder"
        raise DatasetError(f"{path}: {what}{left_out and '; ' + left_out}")
    if left_out:
        _log.warning("%s: %s; a file that is named itself is taken", path, left_out)
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
