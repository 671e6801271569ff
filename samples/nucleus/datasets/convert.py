"""Conversion of a data set of any layout to a folder that other programs read: label images, or COCO JSON."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.layouts.base import UNKNOWN_MODALITY
from nucleus.datasets.layouts.coco_segmentation import compress_runs
from nucleus.datasets.layouts.tables import CLASSES_FILE, write_modalities
from nucleus.images.decoding import NO_CHOICE
from nucleus.images.labels import areas, bounding_boxes, labels_to_rle, rle_runs
from nucleus.images.writing import HIGHEST_IN_16_BITS, write_labels, write_rgb
from trainkit.files import write_text

CATEGORY = {"id": 1, "name": "nucleus", "supercategory": ""}


def convert(dataset: NucleusDataset, target: str, output: str | os.PathLike, progress: bool = True) -> None:
    """Writes images and labels of a data set; reading the result gives the same images and label images.

    Image files are copied unchanged to `images/<id>`, or written as PNG if the data set fits or preprocesses its
    images. The target "labels" adds `labels/<id>.png`, 16 bit (a TIFF for more than 65,535 labels), and `classes.csv`
    if modalities are known; "coco" adds `annotations.json`, with each nucleus as a compressed run-length code of one
    category, and each image's modality as `modality`.

    Examples:
        >>> import tempfile
        >>> from nucleus.datasets.dataset import shipped_data
        >>> dataset = NucleusDataset()
        >>> dataset.load_nucleus(shipped_data(), "val")
        >>> dataset.prepare()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     convert(dataset, "coco", f"{folder}/coco", progress=False)
        ...     sorted(path.name for path in Path(folder, "coco").iterdir())
        ['annotations.json', 'images']

    Args:
        dataset: Prepared data set with labels.
        target: Key of `TARGETS`: "labels" or "coco".
        output: New or empty folder. It is created when everything has been written; an error leaves nothing behind.
        progress: True to show a progress bar.

    Raises:
        ValueError: The target is unknown.
        DatasetError: The folder is not empty, or an image has no labels or unusable ones.
        nucleus.images.reading.ImageFileError: An image file cannot be read.
        OSError: The folder cannot be written.
    """
    if target not in TARGETS:
        raise ValueError(f"Expected a target of {', '.join(TARGETS)}. Received: {target!r}")
    with _atomic_folder(Path(output)) as folder:
        (folder / "images").mkdir()
        # The bar is closed before an error is printed, which then has a line of its own.
        with tqdm(dataset.image_ids, f"convert to {target}", unit="image", disable=not progress) as bar:
            images = ((index, _write_image(dataset, index, folder / "images")) for index in bar)
            TARGETS[target](dataset, images, folder)


def coco_annotations(labels: np.ndarray, image_id: int, first_id: int) -> list[dict[str, Any]]:
    """Returns the annotations of one image in COCO's format.

    Args:
        labels: int32 [H, W].
        image_id: The image's id in the JSON file.
        first_id: The id of the first annotation.

    Returns:
        One annotation for each label that has a pixel, in ascending order.
    """
    annotations = []
    boxes, sizes = bounding_boxes(labels).tolist(), areas(labels).tolist()
    for code, (y1, x1, y2, x2), size in zip(labels_to_rle(labels), boxes, sizes, strict=True):
        if not size:
            continue
        annotations.append(
            {
                "id": first_id + len(annotations),
                "image_id": image_id,
                "category_id": CATEGORY["id"],
                "segmentation": compress_runs(*rle_runs(code, labels.shape), labels.shape),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": size,
                "iscrowd": 0,
            }
        )
    return annotations


def _write_image(dataset: NucleusDataset, index: int, folder: Path) -> Path:
    source = Path(dataset.image_info[index]["path"])
    if dataset.fit is None and dataset.preprocessing is None and dataset.planes == NO_CHOICE:
        path = folder / f"{dataset.image_info[index]['id']}{source.suffix}"
        shutil.copyfile(source, path)
        return path
    path = folder / f"{dataset.image_info[index]['id']}.png"
    write_rgb(path, dataset.load_image(index))
    return path


def _write_label_folder(dataset: NucleusDataset, images: Iterator[tuple[int, Path]], folder: Path) -> None:
    modalities = {}
    for index, _ in images:
        info, (labels, _) = dataset.image_info[index], dataset.load_labels(index)
        suffix = ".png" if labels.max(initial=0) <= HIGHEST_IN_16_BITS else ".tif"
        write_labels(folder / "labels" / f"{info['id']}{suffix}", labels)
        if info["modality"] != UNKNOWN_MODALITY:
            modalities[info["id"]] = info["modality"]
    if modalities:
        write_modalities(folder / CLASSES_FILE, modalities)


def _write_coco(dataset: NucleusDataset, images: Iterator[tuple[int, Path]], folder: Path) -> None:
    content: dict[str, list] = {"images": [], "annotations": [], "categories": [CATEGORY]}
    for index, path in images:
        info, (labels, _) = dataset.image_info[index], dataset.load_labels(index)
        # Ids start from 1, since some programs read 0 as missing.
        number, (height, width) = len(content["images"]) + 1, labels.shape
        entry = {"id": number, "file_name": path.name, "height": height, "width": width}
        content["images"].append({**entry, "modality": info["modality"]})
        content["annotations"] += coco_annotations(labels, number, len(content["annotations"]) + 1)
    write_text(folder / "annotations.json", json.dumps(content) + "\n")


TARGETS: dict[str, Callable[[NucleusDataset, Iterator[tuple[int, Path]], Path], None]] = {
    "labels": _write_label_folder,
    "coco": _write_coco,
}


@contextmanager
def _atomic_folder(path: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path`, which is renamed to `path` unless the block raises an error."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise DatasetError(f"{path}: already exists; name a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        # mkdtemp makes the holder private; the folder inside has the usual permissions.
        (holder / path.name).mkdir()
        yield holder / path.name
        os.replace(holder / path.name, path)
    finally:
        shutil.rmtree(holder)
