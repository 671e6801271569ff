"""Lookup of an image's label image in a folder, by file name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from nucleus.datasets.layouts.base import DatasetError
from nucleus.datasets.layouts.label_files import LABEL_ENDINGS, without_label_ending

SUFFIXES = (".png", ".tif", ".tiff")


class LabelIndex:
    """Index of the label images in a folder, as this project or another program names them.

    The label image of the image `a` is `a.png`, `.tif` or `.tiff`, or has one of `LABEL_ENDINGS` after the name, as in
    `a_cp_masks.png`. A name that differs in case only is used if no name is equal.

    Args:
        folder: Folder of the label images, listed once. A missing folder has none.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self._files: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.folder.iterdir()) if self.folder.is_dir() else []:
            if path.suffix.lower() in SUFFIXES and path.name[0] != "." and path.is_file():
                self._files[path.stem.lower()].append(path)

    def find(self, image_id: str, among: Collection[str] = ()) -> Path:
        """Returns the path of an image's label image.

        Args:
            image_id: Name of the image.
            among: Names of all images; files named for another of them are excluded.

        Raises:
            DatasetError: No file or several files have the name.
        """
        found = self.files(image_id, among)
        if not found:
            raise DatasetError(
                f"{self.folder}: no label image {image_id}.png (or {', '.join(SUFFIXES[1:])}, or with "
                f"{', '.join(LABEL_ENDINGS)} after the name)"
            )
        if len(found) > 1:
            names = ", ".join(path.name for path in found)
            raise DatasetError(f"{self.folder}: {names} could all be the label image of {image_id}; keep one")
        return found[0]

    def files(self, image_id: str, among: Collection[str] = ()) -> list[Path]:
        """Returns all files that could be the label image of an image; see `find`."""
        found = [path for ending in ("", *LABEL_ENDINGS) for path in self._files.get((image_id + ending).lower(), [])]
        own = [path for path in found if path.stem == image_id or (_names(path, image_id) and path.stem not in among)]
        return own or [
            path for path in found if path.stem not in among and without_label_ending(path.stem) not in among
        ]


def _names(path: Path, image_id: str) -> bool:
    return without_label_ending(path.stem) == image_id
