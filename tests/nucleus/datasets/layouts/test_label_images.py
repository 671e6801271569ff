"""Label images beside images: folders and names, parts, 64-bit labels, and errors that name the file."""

import numpy as np
import pytest
import tifffile

from nucleus.datasets.dataset import DatasetError
from nucleus.datasets.layouts import read_samples
from nucleus.datasets.layouts.label_files import close_gaps
from nucleus.images.reading import ImageFileError

from .files import LABELS, ids, load, make_labels, write_image, write_labels


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a.tif", "masks/a.tif"),
        ("images/a.png", "labels/a_label.png"),
        ("images/a_mask.png", "masks/a_mask.png"),
        ("a.png", "a_masks.png"),
        ("a.tif", "a_label.tif"),
        ("train/images/a.png", "train/masks/a.png"),
        ("train/a.png", "train/a_masks.tif"),
    ],
)
def test_images_beside_label_images(tmp_path, image, label):
    write_image(tmp_path / image)
    for dtype in (np.uint8, np.uint16, np.uint32) if label.endswith("tif") else (np.uint8, np.uint16):
        write_labels(tmp_path / label, LABELS * 9, dtype)
        np.testing.assert_array_equal(load(tmp_path).load_labels(0)[0], LABELS)


def test_folders_of_sets_are_subsets(tmp_path):
    for part, name in (("train", "a"), ("train", "b"), ("test", "c")):
        write_image(tmp_path / part / f"images/{name}.png")
        write_labels(tmp_path / part / f"masks/{name}.png")
    (tmp_path / "classes.csv").write_text("ImageId,modality\na,one\nc,one\n")
    (tmp_path / "test" / "classes.csv").write_text("ImageId,foreground,background\nc,white,black\n")
    assert sorted(ids(tmp_path, "train") + ids(tmp_path, "val")) == ["a", "b"]
    assert ids(tmp_path, "test") == ["c"] and sorted(ids(tmp_path)) == ["a", "b", "c"]
    assert {sample.id: sample.modality for sample in read_samples(tmp_path, "all")} == {
        "a": "one",
        "b": "unknown",
        "c": "fluorescence",
    }
    write_image(tmp_path / "val/images/a.png")
    write_labels(tmp_path / "val/masks/a.png")
    assert ids(tmp_path, "val") == ["a"] and ids(tmp_path, "train") == ["a", "b"]
    with pytest.raises(DatasetError, match=r"val.images.a\.png: its id 'a' is also that of .*train.images.a\.png"):
        ids(tmp_path, "train+val")


def test_images_and_label_images_belong_together(tmp_path):
    write_image(tmp_path / "images/a.png")
    write_labels(tmp_path / "labels/b.png")
    with pytest.raises(DatasetError, match=r"b\.png: there is no image b for this file"):
        load(tmp_path)
    write_image(tmp_path / "images/b.png", shape=(5, 5))
    with pytest.raises(DatasetError, match=r"a\.png: it has no mask file and no label image"):
        load(tmp_path)
    failures = []
    dataset = load(tmp_path, failures=failures)
    assert [info["id"] for info in dataset.image_info] == ["b"] and "a.png" in failures[0]
    with pytest.raises(DatasetError, match=r"labels.b\.png: .*\(12, 16\), its image .*b\.png has \(5, 5\)"):
        dataset.load_labels(0)


def test_names_that_are_not_unique_are_named(tmp_path):
    make_labels(tmp_path)
    write_labels(tmp_path / "labels/a_mask.png")
    with pytest.raises(DatasetError, match=r"a_mask\.png: goes by the name 'a' as a\.tif does"):
        load(tmp_path)
    (tmp_path / "labels" / "a_mask.png").unlink()
    write_image(tmp_path / "images/a.tif")
    with pytest.raises(DatasetError, match=r"a\.tif: goes by the name 'a' as a\.png does"):
        load(tmp_path)
    (tmp_path / "images" / "a.tif").unlink()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DatasetError, match="both labels and masks are there"):
        load(tmp_path)


def test_gaps_are_closed_whatever_the_numbers(tmp_path):
    for highest in (5, 2**31 - 1):
        np.testing.assert_array_equal(close_gaps(np.array([[0, 3], [highest, 3]], np.int32)), [[0, 1], [2, 1]])
        np.testing.assert_array_equal(close_gaps(np.array([[2, 3], [highest, 3]], np.int32)), [[1, 2], [3, 2]])


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_label_images_of_64_bits_are_read(tmp_path, dtype):
    write_image(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a_masks.tif", (LABELS * 7).astype(dtype), compression="zlib")
    np.testing.assert_array_equal(load(tmp_path).load_labels(0)[0], LABELS)


@pytest.mark.parametrize("shift", [30, 32, 33])
@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_a_label_above_32_bits_is_named(tmp_path, dtype, shift):
    write_image(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a_masks.tif", LABELS.astype(dtype) << dtype(shift))
    with pytest.raises(ImageFileError, match=r"a_masks\.tif: a label is above 2147483647"):
        load(tmp_path).load_labels(0)


def test_negative_labels_of_64_bits_are_named(tmp_path):
    write_image(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a_masks.tif", -LABELS.astype(np.int64))
    with pytest.raises(ImageFileError, match=r"a_masks\.tif: no label image but int64"):
        load(tmp_path).load_labels(0)
