"""Lookup of an image's label image, or other file with its nuclei, in a folder, by file name."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from nucleus.datasets.layouts.base import DatasetError
from nucleus.datasets.layouts.drawn_files import KINDS, drawn_kind
from nucleus.datasets.layouts.label_files import LABEL_ENDINGS, without_label_ending

SUFFIXES = (".png", ".tif", ".tiff")


class LabelIndex:
    """Index of the label images in one or several folders, as this project or another program names them.

    The label image of the image `a` is `a.png`, `.tif` or `.tiff`, or has one of `LABEL_ENDINGS` after the name, as in
    `a_cp_masks.png`. Only where there is none, files of the kinds in `nucleus.datasets.layouts.drawn_files.KINDS` are
    looked for: ROIs of ImageJ (`a.zip`, `a_rois.zip`, `a.roi`), GeoJSON (`a.geojson`), `a_seg.npy` and labelme's
    `a.json`. A name that differs in case only is used if no name is equal.

    Args:
        folders: Folders of the label images, listed once. A missing folder has none.
        leave_out: Files in them that are no label images, such as the images themselves.
    """

    def __init__(self, *folders: str | os.PathLike, leave_out: Collection[Path] = ()) -> None:
        self._folders = [Path(folder) for folder in folders]
        self._files: dict[str, list[Path]] = defaultdict(list)
        self._drawn: dict[str, list[Path]] = defaultdict(list)
        left_out = {path.resolve() for path in leave_out}
        for folder in self._folders:
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                if path.name[0] == "." or not path.is_file() or (left_out and path.resolve() in left_out):
                    continue
                kind = drawn_kind(path)
                if path.suffix.lower() in SUFFIXES:
                    self._files[path.stem.lower()].append(path)
                elif kind is not None:
                    # A name with an ending may be that of an image, too.
                    for name in {path.stem.lower(), str(kind.image_name(path)).lower()}:
                        self._drawn[name].append(path)

    def find(self, image_id: str, among: Collection[str] = ()) -> Path:
        """Returns the path of an image's label image, or of the other file with its nuclei.

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
            f"{', '.join(LABEL_ENDINGS)} after the name), and no other file with its nuclei ({', '.join(KINDS)})"
        )

    def _candidates(self, image_id: str, among: Collection[str]) -> list[Path]:
        found = [path for ending in ("", *LABEL_ENDINGS) for path in self._files.get((image_id + ending).lower(), [])]
        own = [path for path in found if path.stem == image_id or (_names(path, image_id) and path.stem not in among)]
        own = own or [path for path in found if path.stem not in among and without_label_ending(path.stem) not in among]
        if own:
            return own
        named = [
            (path, kind.image_name(path, {image_id, *among}))
            for path in self._drawn.get(image_id.lower(), [])
            if (kind := drawn_kind(path)) is not None
        ]
        exact = [path for path, name in named if name == image_id]
        return exact or [path for path, name in named if name not in among]


def _names(path: Path, image_id: str) -> bool:
    return without_label_ending(path.stem) == image_id
