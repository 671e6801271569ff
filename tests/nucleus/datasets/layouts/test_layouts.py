"""Every layout is read as the same samples, is detected from its files, and errors name the file and the cause."""

import pickle

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.layouts import LAYOUTS, find_layout, read_samples
from nucleus.images.reading import read_image

from .files import (
    LABELS,
    add_annotation,
    coco,
    codes,
    ids,
    load,
    make_labels,
    rectangles,
    write_geojson,
    write_image,
    write_json,
    write_labelme,
    write_labels,
    write_roi,
    write_seg,
)


def make_dsb2018(root):
    for name in "ab":
        write_image(root / f"stage1_train/{name}/images/{name}.png", ord(name))
        for number in (1, 2, 3):
            write_labels(root / f"stage1_train/{name}/masks/{number}.png", (number == LABELS) * 255, np.uint8)


def make_rle_csv(root):
    rows = ["ImageId,EncodedPixels,Height,Width,Usage"]
    for name in "ab":
        write_image(root / f"stage1_test/{name}/images/{name}.png", ord(name))
        rows += [f"{name},{code},12,16,Public" for code in codes()]
    (root / "stage1_solution.csv").write_text("\n".join(rows) + "\n")


def make_glas(root):
    for name in ("train_1", "train_2"):
        write_image(root / f"{name}.bmp", int(name[-1]))
        write_labels(root / f"{name}_anno.bmp", LABELS, np.uint8)


def make_coco(root):
    content = coco()
    for name in "ab":
        write_image(root / f"images/{name}.png", ord(name))
        content["images"].append({"id": ord(name), "file_name": f"{name}.png", "height": 12, "width": 16})
        for number in (1, 2, 3):
            code = coco_mask.encode(np.asfortranarray(number == LABELS, np.uint8))
            segmentation = {"size": [12, 16], "counts": code["counts"].decode()}
            add_annotation(content, ord(name), segmentation)
    write_json(root / "annotations.json", content)


def make_via(root):
    content = {}
    for name in "ab":
        write_image(root / f"{name}.png", ord(name))
        shapes = [
            {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1}
            for (x1, y1), (x2, y2) in rectangles()
        ]
        regions = [{"shape_attributes": shape, "region_attributes": {}} for shape in shapes]
        content[name] = {"filename": f"{name}.png", "size": 1, "regions": regions, "file_attributes": {}}
    write_json(root / "via_region_data.json", content)


def make_beside(write, ending):
    """Returns a function that makes a data set of images with a file each."""

    def make(root):
        for name in "ab":
            write_image(root / f"images/{name}.png", ord(name))
            write(root / f"outlines/{name}{ending}")

    return make


MAKERS = {
    "dsb2018": make_dsb2018,
    "rle-csv": make_rle_csv,
    "glas": make_glas,
    "labels": make_labels,
    "coco": make_coco,
    "via": make_via,
    "imagej-roi": make_beside(write_roi, ".zip"),
    "geojson": make_beside(write_geojson, ".geojson"),
    "seg-npy": make_beside(write_seg, "_seg.npy"),
    "labelme": make_beside(write_labelme, ".json"),
}


@pytest.mark.parametrize("layout", MAKERS)
def test_every_layout_gives_the_same_samples(tmp_path, layout):
    MAKERS[layout](tmp_path)
    assert find_layout(tmp_path) is LAYOUTS[layout]
    dataset = load(tmp_path)
    assert dataset.num_images == 2
    for index in dataset.image_ids:
        labels, class_ids = dataset.load_labels(index)
        np.testing.assert_array_equal(labels, LABELS)
        assert labels.dtype == np.int32 and class_ids.tolist() == [1, 1, 1]
        np.testing.assert_array_equal(dataset.load_image(index), read_image(dataset.image_info[index]["path"]))
    assert pickle.loads(pickle.dumps(dataset)).load_labels(1)[0].max() == 3
    stored = [path for path in (tmp_path / ".label_cache").rglob("*.png")]
    assert len(stored) == 2, "the label images are cached"


@pytest.mark.parametrize("layout", [name for name in MAKERS if name != "dsb2018"])
def test_a_fifth_is_set_aside_where_the_layout_has_no_validation_images(tmp_path, layout):
    MAKERS[layout](tmp_path)
    train, val = ids(tmp_path, "train"), ids(tmp_path, "val")
    assert len(train) == len(val) == 1 and sorted(train + val) == sorted(ids(tmp_path))
    assert sorted(ids(tmp_path, "train+val")) == sorted(train + val)


def test_the_images_set_aside_do_not_depend_on_the_others_order(tmp_path):
    for number in range(20):
        write_image(tmp_path / f"images/{number:02d}.png")
        write_labels(tmp_path / f"labels/{number:02d}.png")
    train, val = ids(tmp_path, "train"), ids(tmp_path, "val")
    assert len(val) == 4 and len(train) == 16 and not set(train) & set(val)
    assert val != train[:4] and val == sorted(val)


def test_a_folder_of_several_layouts_is_refused_with_their_names(tmp_path):
    make_labels(tmp_path)
    write_json(tmp_path / "annotations.json", {"images": []})
    with pytest.raises(DatasetError, match=r"any of the layouts labels, coco; .*--layout"):
        read_samples(tmp_path, "all")
    assert ids(tmp_path, layout="labels") == ["a", "b"]
    with pytest.raises(DatasetError, match="no layout 'voc'; there are dsb2018, "):
        read_samples(tmp_path, "all", "voc")


def test_mask_folders_come_before_codes_and_codes_before_bare_images(tmp_path):
    make_rle_csv(tmp_path)
    assert find_layout(tmp_path).name == "rle-csv"
    make_dsb2018(tmp_path)
    assert find_layout(tmp_path).name == "dsb2018"
    (tmp_path / "latin.csv").write_bytes("Größe\n".encode("latin-1"))
    assert find_layout(tmp_path).name == "dsb2018"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_of_another_layout_is_named(tmp_path, layout):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match=str(tmp_path)):
        read_samples(tmp_path, "all", layout)
    with pytest.raises(DatasetError, match="gone: there is no such folder or file"):
        read_samples(tmp_path / "gone", "all", layout)


def test_a_file_must_be_one_that_a_layout_knows(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match=r"notes\.txt: no data set"):
        read_samples(tmp_path / "notes.txt", "all")
    with pytest.raises(DatasetError, match=r"notes\.txt: is a file; the layout labels needs a folder"):
        read_samples(tmp_path / "notes.txt", "all", "labels")


def test_images_are_fitted_into_a_square_with_their_labels(tmp_path):
    shape = (24, 48)
    write_image(tmp_path / "images/a.png", shape=shape)
    labels = np.zeros(shape, np.int32)
    labels[4:12, 8:24] = 1
    labels[20, 40] = 2
    labels[14:22, 30:38] = 3
    write_labels(tmp_path / "labels/a.png", labels)
    dataset = NucleusDataset(fit=24)
    dataset.load_nucleus(tmp_path, "all")
    image, fitted = dataset.load_image(0), dataset.load_labels(0)[0]
    assert image.shape == (24, 24, 3) and fitted.shape == (24, 24)
    assert not image[:6].any() and not image[18:].any() and image[6:18].any(axis=(1, 2)).all()
    expected = np.zeros((24, 24), np.int32)
    expected[6 + 2 : 6 + 6, 4:12] = 1
    expected[6 + 7 : 6 + 11, 15:19] = 2 + labels[20 + 1 : 22, 41:42].any()
    kept = np.unique(fitted)
    assert kept.tolist() == list(range(len(kept))), "labels stay without a gap"
    np.testing.assert_array_equal(fitted == 1, expected == 1)
    np.testing.assert_array_equal(fitted == kept[-1], expected == 2)
    with pytest.raises(DatasetError, match="fit=0"):
        NucleusDataset(fit=0)
