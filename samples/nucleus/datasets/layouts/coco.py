"""COCO's JSON for object instances (https://cocodataset.org/#format-data, "Object Detection").

<root>/annotations.json, <root>/annotations/instances_train.json, ...    one file for each part, which is named by the
                                                                         file, without "instances_"
<root>/<file_name>, or <root>/images/<file_name>, or in a folder of the part's name

<root>/<part>/_annotations.coco.json     Roboflow: each part (train, valid, test) with its images in a folder

A data set is a folder with such files, or one JSON file with the images beside it or beside its folder `annotations`;
backslashes in a file_name may stand for slashes. Every category counts as nucleus. Crowds (iscrowd) are skipped;
polygons and both forms of run-length codes are read. Annotations without a segmentation and polygons of fewer than
three points are skipped and counted in a warning, unless there are no others. An image's id is its file_name without
suffix, with "_" for "/". Without a list `annotations`, the images have no labels; an image without an annotation in the
list has no nuclei.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from nucleus.datasets.layouts.base import UNKNOWN_MODALITY, DatasetError, Layout, Part, Report, Sample
from nucleus.datasets.layouts.coco_segmentation import segmentation_pixels
from nucleus.datasets.layouts.painting import ListedInstances, named_image
from nucleus.images.reading import list_folders
from trainkit.reading import read_json, reading

ANNOTATION_FOLDER = "annotations"
IMAGE_FOLDER = "images"
_PREFIX = "instances_"
_ROBOFLOW = "_annotations.coco.json"
_FEWEST_NUMBERS = 6

_log = logging.getLogger(__name__)


def _recognises(root: Path) -> bool:
    return root.suffix.lower() == ".json" if root.is_file() else bool(_files(root) or _folders(root))


def _files(root: Path) -> list[Path]:
    found = [*sorted(root.glob("*.json")), *sorted((root / ANNOTATION_FOLDER).glob("*.json"))]
    # Other JSON files may be there, too; parsing a large file only to check takes too long.
    return [path for path in found if b'"images"' in path.read_bytes()]


def _folders(root: Path) -> dict[str, Path]:
    """Returns Roboflow's annotation files by the names of their folders."""
    if not root.is_dir():
        return {}
    return {folder.name: folder / _ROBOFLOW for folder in list_folders(root) if (folder / _ROBOFLOW).is_file()}


def _parts(root: Path) -> Mapping[str, Part]:
    if root.is_file():
        return {_part_name(root): partial(_read, root.parent, root, _part_name(root))}
    files = _files(root)
    if not files:
        parts = {name: partial(_read, path.parent, path, name) for name, path in _folders(root).items()}
        if parts:
            return parts
        raise DatasetError(f"{root}: expected a JSON file with images and annotations, here or in {ANNOTATION_FOLDER}")
    named: dict[str, Path] = {}
    for path in files:
        first = named.setdefault(_part_name(path), path)
        if first is not path:
            raise DatasetError(f"{path}: is the part {_part_name(path)!r} as {first} is")
    return {name: partial(_read, root, path, name) for name, path in named.items()}


def _part_name(path: Path) -> str:
    return path.stem.removeprefix(_PREFIX)


def _read(root: Path, path: Path, part: str, report: Report) -> list[Sample]:
    content = read_json(path, "is no JSON file of COCO", DatasetError)
    images = _by_id(path, content, "images")
    annotations = _by_id(path, content, "annotations") if "annotations" in content else None
    if annotations:
        annotations = _drawn(path, annotations)
    of_image: dict[Any, list[dict]] = defaultdict(list)
    for number, annotation in (annotations or {}).items():
        image_id = annotation.get("image_id")
        if not _is_id(image_id) or image_id not in images:
            raise DatasetError(f"{path}, annotation {number}: there is no image {image_id!r}")
        if annotation.get("iscrowd") not in (None, 0, 1):
            raise DatasetError(f"{path}, annotation {number}: iscrowd is 0 or 1; found {annotation['iscrowd']!r}")
        if not annotation.get("iscrowd"):
            of_image[image_id].append(annotation)
    roots = [root, root.parent] if path.parent == root and root.name == ANNOTATION_FOLDER else [root]
    folders = [
        folder for base in roots for folder in (base, base / IMAGE_FOLDER, base / part, base / IMAGE_FOLDER / part)
    ]
    samples = []
    for number, image in images.items():
        try:
            with reading(f"{path}, image {number}", error=DatasetError):
                file, name = named_image(f"{path}, image {number}", "file_name", image.get("file_name"), folders)
                truth = None if annotations is None else _instances(path, image, of_image[number])
                modality = _modality(path, image)
        except DatasetError as error:
            report(error)
            continue
        image_id = "_".join(name.with_suffix("").parts)
        collection = part if path.name == _ROBOFLOW else path.stem
        samples.append(Sample(image_id, file, truth, collection, modality))
    return samples


def _by_id(path: Path, content: Mapping[str, Any], key: str) -> dict[Any, dict]:
    entries = content.get(key)
    if not isinstance(entries, list):
        raise DatasetError(f"{path}: expected a list {key!r}; found {type(entries).__name__}")
    found: dict[Any, dict] = {}
    for position, entry in enumerate(entries):
        number = entry.get("id") if isinstance(entry, dict) else None
        if not _is_id(number):
            raise DatasetError(f"{path}: entry {position} of {key!r} has no id")
        if number in found:
            raise DatasetError(f"{path}: the id {number!r} occurs twice in {key!r}")
        found[number] = entry
    return found


def _is_id(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _drawn(path: Path, annotations: Mapping[Any, dict]) -> Mapping[Any, dict]:
    """Removes annotations without a segmentation and polygons of fewer than three points, unless none are left."""
    kept, skipped = {}, []
    for number, annotation in annotations.items():
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, list):
            segmentation = [polygon for polygon in segmentation if not _is_short(polygon)]
        if segmentation != annotation.get("segmentation") or not segmentation:
            skipped.append(number)
        if segmentation:
            kept[number] = {**annotation, "segmentation": segmentation}
    if not kept:
        return annotations
    if skipped:
        _log.warning(
            "%s: %d annotations have no segmentation or a polygon of fewer than three points (first: %s); these are "
            "skipped, and %d nuclei with them",
            path,
            len(skipped),
            skipped[0],
            len(annotations) - len(kept),
        )
    return kept


def _is_short(polygon: Any) -> bool:
    return isinstance(polygon, list) and len(polygon) < _FEWEST_NUMBERS and len(polygon) % 2 == 0


def _modality(path: Path, image: Mapping[str, Any]) -> str:
    modality = image.get("modality") or UNKNOWN_MODALITY
    if not isinstance(modality, str):
        raise DatasetError(f"{path}, image {image['id']}: modality must be text; found {modality!r}")
    return modality


def _instances(path: Path, image: Mapping[str, Any], annotations: list[dict]) -> ListedInstances:
    size = (image.get("height"), image.get("width"))
    if size != (None, None) and not all(type(side) is int and side > 0 for side in size):
        raise DatasetError(f"{path}, image {image['id']}: height and width must be whole numbers; found {size}")
    codes = tuple((f"annotation {annotation['id']}", annotation.get("segmentation")) for annotation in annotations)
    return ListedInstances(path, codes, None if size == (None, None) else size, segmentation_pixels)


LAYOUT = Layout("coco", "COCO JSON beside the images, or in annotations/", _recognises, _parts)
