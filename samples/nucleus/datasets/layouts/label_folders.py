"""Images and label images side by side, as StarDist and Cellpose use them.

<root>/images/a.tif      with  <root>/labels/a.tif or <root>/masks/a.tif (or a_masks.tif, a_label.tif...)
<root>/a.tif             with  <root>/a_masks.tif (or _cp_masks, _mask, _labels, _label)
<root>/a_img.tif         with  <root>/a_masks.tif, if there is no image a
<root>/classes.csv       optional: ImageId,modality (or ImageId,foreground,background)

Instead of <root> itself, each folder in it may hold such a set, as in <root>/train/images, and is then a part with its
name. Label images are PNG or TIFF files of whole numbers; their values are the labels. Cellpose's other files about an
image (a_flows, a_dP, a_cellprob, a_cp_output, a_outlines, each also with _cp_masks at the end) are ignored.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path

from nucleus.datasets.layouts.base import DatasetError
from nucleus.datasets.layouts.label_files import LABEL_ENDINGS, LabelFile, without_label_ending
from nucleus.datasets.layouts.sets import IMAGE_FOLDER, by_name, make_layout
from nucleus.images.reading import list_images

LABEL_FOLDERS = ("labels", "masks")
_IMAGE_ENDING = "_img"
_BY_PRODUCTS = ("_flows", "_dP", "_cellprob", "_cp_output", "_outlines")


def _is_set(folder: Path) -> bool:
    if (folder / IMAGE_FOLDER).is_dir():
        return any(_may_hold_labels(folder / name) for name in LABEL_FOLDERS)
    return any(_is_label(path) for path in _without_by_products(list_images(folder)))


def _may_hold_labels(folder: Path) -> bool:
    """Returns True if a folder has image files, or nothing: ROIs and other outlines may be in a folder of its name."""
    return folder.is_dir() and (bool(list_images(folder)) or not any(folder.iterdir()))


def _find(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Returns the image files and the label images of a set, both by the name of the image."""
    if not (folder / IMAGE_FOLDER).is_dir():
        files = _without_by_products(list_images(folder))
        images = by_name(path for path in files if not _is_label(path))
        return images, by_name(filter(_is_label, files), partial(_image_of, images))
    images = by_name(list_images(folder / IMAGE_FOLDER))
    present = [folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()]
    if len(present) > 1:
        raise DatasetError(f"{folder}: both {' and '.join(LABEL_FOLDERS)} are there; keep the one with the labels")
    # An image may itself be called a_mask: a label image of the same name belongs to it.
    labels = by_name(
        _without_by_products(list_images(present[0]), images),
        lambda stem: stem if stem in images else _image_of(images, stem),
    )
    return images, labels


def _image_of(images: Mapping[str, Path], stem: str) -> str:
    """Returns the name of the image that a label image belongs to."""
    name = without_label_ending(stem)
    return name + _IMAGE_ENDING if name not in images and name + _IMAGE_ENDING in images else name


def _without_by_products(paths: list[Path], images: Collection[str] = ()) -> list[Path]:
    """Removes Cellpose's files that are no label images: those named for another file, and for no image."""
    about = {path.stem for path in paths} | set(images)
    about |= {without_label_ending(stem) for stem in about}
    return [path for path in paths if path.stem in images or not _is_by_product(path.stem, about, images)]


def _is_by_product(stem: str, about: Collection[str], images: Collection[str]) -> bool:
    """Returns True if a name is that of another file with an ending, after which Cellpose adds that of label images."""
    # The label image of an image that is itself called a_flows is none.
    names = {stem} | ({without_label_ending(stem)} - set(images))
    return any(
        name.endswith(ending) and name.removesuffix(ending) in about for name in names for ending in _BY_PRODUCTS
    )


def _is_label(path: Path) -> bool:
    return path.stem.endswith(LABEL_ENDINGS)


LAYOUT = make_layout(
    "labels",
    "images/a.png with labels/a.png or masks/a.png, or a.png with a_masks.png",
    _is_set,
    _find,
    LabelFile,
    f"a folder {IMAGE_FOLDER} beside {' or '.join(LABEL_FOLDERS)}, or image files beside label images of their names "
    f"with {', '.join(LABEL_ENDINGS)}",
)
