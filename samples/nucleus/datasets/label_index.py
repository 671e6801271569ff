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
    """Index of the label images in one or several folders, as this project or another program names them.

    The label image of the image `a` is `a.png`, `.tif` or `.tiff`, or has one of `LABEL_ENDINGS` after the name, as in
    `a_cp_masks.png`. A name that differs in case only is used if no name is equal.

    Args:
        folders: Folders of the label images, listed once. A missing folder has none.
    """

    def __init__(self, *folders: str | os.PathLike) -> None:
        self._folders = [Path(folder) for folder in folders]
        self._files: dict[str, list[Path]] = defaultdict(list)
        for folder in self._folders:
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
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
        found = self._candidates(image_id, among)
        if len(found) == 1:
            return found[0]
        folders = ", ".join(map(str, self._folders))
        if found:
            names = ", ".join(path.name if len(self._folders) == 1 else str(path) for path in found)
            raise DatasetError(f"{folders}: {names} could all be the label image of {image_id}; keep one")
        raise DatasetError(
            f"{folders}: no label image {image_id}.png (or {', '.join(SUFFIXES[1:])}, or with "
            f"{', '.join(LABEL_ENDINGS)} after the name)"
        )

    def _candidates(self, image_id: str, among: Collection[str]) -> list[Path]:
        found = [path for ending in ("", *LABEL_ENDINGS) for path in self._files.get((image_id + ending).lower(), [])]
        own = [path for path in found if path.stem == image_id or (_names(path, image_id) and path.stem not in among)]
        return own or [
            path for path in found if path.stem not in among and without_label_ending(path.stem) not in among
        ]


def _names(path: Path, image_id: str) -> bool:
    return without_label_ending(path.stem) == image_id
