"""Layouts of images with one drawn file each, a kind in `nucleus.datasets.layouts.drawn_files.KINDS`.

<root>/a.tif             with  <root>/a.geojson (or the kind's other endings)
<root>/images/a.tif      with  a.geojson in the one folder beside images that has such files
<root>/classes.csv       optional: ImageId,modality (or ImageId,foreground,background)

Instead of <root> itself, each folder in it may hold such a set, as in <root>/train/images, and is then a part with its
name. What programs write beside images (a_cp_masks.png, a_flows.tif, ...) is ignored.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from pathlib import Path

from nucleus.datasets.layouts.base import DatasetError, Layout
from nucleus.datasets.layouts.drawn_files import KINDS, DrawnFile, DrawnKind
from nucleus.datasets.layouts.label_files import split_by_products
from nucleus.datasets.layouts.sets import IMAGE_FOLDER, by_name
from nucleus.datasets.layouts.sets import make_layout as make_layout_of_sets
from nucleus.images.reading import list_folders, list_images


def make_layout(kind: str, summary: str) -> Layout:
    """Returns the layout of a kind of files.

    Args:
        kind: Key of `KINDS`.
        summary: Files of the kind in a few words.
    """
    drawn = KINDS[kind]
    names = ", ".join(f"a{ending}{suffix}" for suffix in drawn.suffixes for ending in drawn.endings)
    expected = f"image files, and one of {names} for an image a, beside it or in a folder"
    find, truth = partial(_find, drawn), partial(DrawnFile, kind=kind)
    return make_layout_of_sets(kind, summary, partial(_is_set, drawn), find, truth, expected)


def _is_set(kind: DrawnKind, folder: Path) -> bool:
    images = {path.stem for path in _images(folder)}
    return bool(images) and any(
        kind.image_name(path, images) in images and kind.fits(path)
        for where in _drawn_folders(folder)
        for path in where.iterdir()
    )


def _images(folder: Path) -> list[Path]:
    inner = folder / IMAGE_FOLDER
    return split_by_products(list_images(inner if inner.is_dir() else folder))[0]


def _drawn_folders(folder: Path) -> list[Path]:
    """Returns the folders that may have the drawn files of a set."""
    return [folder, *list_folders(folder)] if (folder / IMAGE_FOLDER).is_dir() else [folder]


def _drawn(kind: DrawnKind, folder: Path, images: Collection[str]) -> dict[str, Path]:
    """Returns the files of a kind in a folder by the names of their images."""
    named: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = kind.image_name(path, images)
        if name is None or path.name.startswith(".") or not path.is_file() or not kind.fits(path):
            continue
        first = named.setdefault(name, path)
        if first is not path:
            raise DatasetError(f"{path}: belongs to the image {name!r} as {first.name} does; keep one")
    return named


def _find(kind: DrawnKind, folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Returns the image files and the drawn files of a set, both by the name of the image."""
    images, drawn = by_name(_images(folder)), {}
    for where in _drawn_folders(folder):
        for name, path in _drawn(kind, where, images).items():
            if name in drawn:
                raise DatasetError(f"{path}: belongs to the image {name!r} as {drawn[name]} does; keep one")
            drawn[name] = path
    return images, drawn


LAYOUTS = (
    make_layout("imagej-roi", "images with ROIs of ImageJ, a.zip, a_rois.zip or a.roi for the image a"),
    make_layout("geojson", "images with GeoJSON of QuPath, a.geojson for the image a"),
    make_layout("seg-npy", "images with a_seg.npy of Cellpose"),
    make_layout("labelme", "images with JSON of labelme, a.json for the image a"),
)
