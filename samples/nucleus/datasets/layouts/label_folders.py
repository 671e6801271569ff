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

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from pathlib import Path

from nucleus.datasets.layouts.base import UNKNOWN_MODALITY, DatasetError, Layout, Part, Report, Sample
from nucleus.datasets.layouts.label_files import LABEL_ENDINGS, LabelFile, without_label_ending
from nucleus.datasets.layouts.tables import CLASSES_FILE, read_modalities
from nucleus.images.reading import list_folders, list_images

IMAGE_FOLDER = "images"
LABEL_FOLDERS = ("labels", "masks")
_IMAGE_ENDING = "_img"
_BY_PRODUCTS = ("_flows", "_dP", "_cellprob", "_cp_output", "_outlines")


def _recognises(root: Path) -> bool:
    return bool(_sets(root))


def _sets(root: Path) -> list[Path]:
    """Returns the folders that hold a set: the root itself, or else those in it."""
    if not root.is_dir():
        return []
    if _is_set(root):
        return [root]
    return [path for path in list_folders(root) if _is_set(path)]


def _is_set(folder: Path) -> bool:
    if (folder / IMAGE_FOLDER).is_dir():
        return any(_may_hold_labels(folder / name) for name in LABEL_FOLDERS)
    return any(_is_label(path) for path in _without_by_products(list_images(folder)))


def _may_hold_labels(folder: Path) -> bool:
    """Returns True if a folder has image files, or nothing: ROIs and other outlines may be in a folder of its name."""
    return folder.is_dir() and (bool(list_images(folder)) or not any(folder.iterdir()))


def _parts(root: Path) -> Mapping[str, Part]:
    sets = _sets(root)
    if not sets:
        raise DatasetError(
            f"{root}: expected a folder {IMAGE_FOLDER} beside {' or '.join(LABEL_FOLDERS)}, or image files beside "
            f"label images of their names with {', '.join(LABEL_ENDINGS)}"
        )
    return {"all" if folder == root else folder.name: partial(_read, root, folder) for folder in sets}


def _read(root: Path, folder: Path, report: Report) -> list[Sample]:
    images, labels = _find(folder)
    for name, path in labels.items():
        if name not in images:
            report(DatasetError(f"{path}: there is no image {name} for this label image"))
    modalities = read_modalities(root / CLASSES_FILE) | read_modalities(folder / CLASSES_FILE)
    collection = "labels" if folder == root else folder.name
    return [
        Sample(
            name,
            image,
            LabelFile(labels[name]) if name in labels else None,
            collection,
            modalities.get(name, UNKNOWN_MODALITY),
        )
        for name, image in images.items()
    ]


def _find(folder: Path) -> tuple[dict[str, Path], dict[str, Path]]:
    """Returns the image files and the label images of a set, both by the name of the image."""
    if not (folder / IMAGE_FOLDER).is_dir():
        files = _without_by_products(list_images(folder))
        images = _by_name((path for path in files if not _is_label(path)), lambda stem: stem)
        return images, _by_name(filter(_is_label, files), partial(_image_of, images))
    images = _by_name(list_images(folder / IMAGE_FOLDER), lambda stem: stem)
    present = [folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()]
    if len(present) > 1:
        raise DatasetError(f"{folder}: both {' and '.join(LABEL_FOLDERS)} are there; keep the one with the labels")
    # An image may itself be called a_mask: a label image of the same name belongs to it.
    labels = _by_name(
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


def _by_name(paths: Iterable[Path], name_of: Callable[[str], str]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for path in paths:
        first = named.setdefault(name_of(path.stem), path)
        if first is not path:
            raise DatasetError(f"{path}: goes by the name {name_of(path.stem)!r} as {first.name} does")
    return named


def _is_label(path: Path) -> bool:
    return path.stem.endswith(LABEL_ENDINGS)


LAYOUT = Layout(
    "labels", "images/a.png with labels/a.png or masks/a.png, or a.png with a_masks.png", _recognises, _parts
)
