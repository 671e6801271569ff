"""Small images, label images and data sets for the tests of layouts."""

import json

import cv2
import numpy as np
import tifffile

from nucleus.datasets.dataset import NucleusDataset
from nucleus.datasets.layouts import read_samples
from nucleus.images.geojson import nuclei_as_features
from nucleus.images.imagej_roi import write_rois
from nucleus.images.labels import rle_encode

SHAPE = (12, 16)
# Two nuclei that touch and a third; row by row the third comes first.
LABELS = np.zeros(SHAPE, np.int32)
LABELS[4:9, 2:6] = 1
LABELS[4:9, 6:9] = 2
LABELS[1:4, 11:15] = 3


def load(root, subset="all", **options):
    dataset = NucleusDataset()
    dataset.load_nucleus(root, subset, **options)
    dataset.prepare()
    return dataset


def ids(root, subset="all", **options):
    return [sample.id for sample in read_samples(root, subset, **options)]


def write_image(path, seed=0, shape=SHAPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    assert cv2.imwrite(str(path), image)
    return image[..., ::-1]


def write_labels(path, labels=LABELS, dtype=np.uint16):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, labels.astype(dtype))
    else:
        assert cv2.imwrite(str(path), labels.astype(dtype))


def codes(labels=LABELS):
    return [rle_encode(labels == number) for number in range(1, labels.max() + 1)]


def make_labels(root):
    for name in "ab":
        write_image(root / f"images/{name}.png", ord(name))
        write_labels(root / f"labels/{name}.tif", LABELS, np.uint32)


def coco():
    return {"images": [], "annotations": [], "categories": [{"id": 1, "name": "nucleus"}]}


def add_annotation(content, image_id, segmentation, **more):
    number = len(content["annotations"]) + 1
    entry = {"id": number, "image_id": image_id, "category_id": 1, "segmentation": segmentation, "iscrowd": 0}
    content["annotations"].append({**entry, **more})


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_roi(path, labels=LABELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rois(path, labels)


def write_geojson(path, labels=LABELS):
    write_json(path, nuclei_as_features(labels, {}, path.stem))


def write_seg(path, labels=LABELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, {"masks": labels.astype(np.uint16), "outlines": labels * 0, "filename": "a.png"})


def rectangles(labels=LABELS):
    found = []
    for number in range(1, labels.max() + 1):
        y, x = np.nonzero(labels == number)
        found.append(((int(x.min()), int(y.min())), (int(x.max()) + 1, int(y.max()) + 1)))
    return found


def labelme(*shapes, shape=SHAPE):
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [{"label": "nucleus", "group_id": None, "flags": {}, **one} for one in shapes],
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": shape[0],
        "imageWidth": shape[1],
    }


def write_labelme(path, labels=LABELS):
    shapes = [{"shape_type": "rectangle", "points": [list(low), list(high)]} for low, high in rectangles(labels)]
    write_json(path, labelme(*shapes))
