"""Label images beside images are found by the names of Cellpose and others, and errors name the file."""

import cv2
import numpy as np
import pytest

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.layouts import read_samples
from nucleus.images.reading import ImageFileError

LABELS = np.zeros((12, 16), np.uint8)
LABELS[2:5, 2:5], LABELS[7:10, 8:12] = 1, 2


def write(path, pixels=LABELS):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)


def load(root, subset="all"):
    dataset = NucleusDataset()
    dataset.load_nucleus(root, subset)
    dataset.prepare()
    return dataset


@pytest.mark.parametrize(
    ("image", "label", "others"),
    [
        ("000_img.png", "000_masks.png", []),
        ("a.png", "a_cp_masks.png", ["a_cp_output.png", "a_flows.tif", "a_outlines.png"]),
        ("a.tif", "a_masks.tif", ["a_flows.tif"]),
        ("000_img.png", "000_img_cp_masks.png", ["000_img_flows.tif"]),
        ("000_img.tif", "000_masks.tif", ["000_flows.tif"]),
        ("images/000_img.png", "masks/000_masks.png", []),
        ("images/a.png", "masks/a_cp_masks.png", ["masks/a_flows.tif"]),
        ("images/a_flows.png", "labels/a_flows.png", []),
        ("train/a_img.png", "train/a_masks.png", ["train/a_flows.tif"]),
    ],
)
def test_label_images_are_found_as_cellpose_names_them(tmp_path, image, label, others):
    for name in (image, *others):
        write(tmp_path / name, np.full((12, 16), 90, np.uint8))
    write(tmp_path / label)
    dataset = load(tmp_path)
    assert [info["path"] for info in dataset.image_info] == [str(tmp_path / image)]
    np.testing.assert_array_equal(dataset.load_labels(0)[0], LABELS)


def test_an_image_of_the_very_name_comes_before_that_with_img(tmp_path):
    for name in ("a", "a_img"):
        write(tmp_path / f"{name}.png", np.full((12, 16), 90, np.uint8))
        write(tmp_path / f"{name}_masks.png", LABELS * (len(name)))
    assert {sample.id: sample.truth.path.name for sample in read_samples(tmp_path, "all")} == {
        "a": "a_masks.png",
        "a_img": "a_img_masks.png",
    }


def test_what_is_called_as_a_by_product_but_is_of_no_other_image_is_an_image(tmp_path):
    write(tmp_path / "river_flows.png")
    write(tmp_path / "river_flows_masks.png")
    assert [sample.id for sample in read_samples(tmp_path, "all")] == ["river_flows"]


def test_label_images_with_losses_are_refused(tmp_path):
    write(tmp_path / "images/a.jpg")
    write(tmp_path / "labels/a.jpg")
    with pytest.raises(ImageFileError, match=r"labels.a\.jpg: a JPEG cannot hold labels"):
        load(tmp_path).load_labels(0)


def binary_masks(root, *names):
    for name in names:
        write(root / f"images/{name}.png")
        write(root / f"masks/{name}.png", (LABELS > 0) * np.uint8(255))


def test_binary_masks_are_reported_once_a_data_set_whether_they_are_cached_or_not(tmp_path, caplog):
    binary_masks(tmp_path, "a", "b")
    for _ in range(2):
        dataset = load(tmp_path)
        caplog.clear()
        for index in dataset.image_ids:
            assert dataset.load_labels(index)[0].max() == 1
        assert len(caplog.records) == 1
        assert "a.png: its 2 separate regions have one value and count as one nucleus" in caplog.text


@pytest.mark.parametrize("labels", [LABELS, LABELS * 0, (LABELS == 1) * np.uint8(255)])
def test_other_label_images_are_not_suspected(tmp_path, caplog, labels):
    write(tmp_path / "images/a.png")
    write(tmp_path / "labels/a.png", labels)
    load(tmp_path).load_labels(0)
    assert not caplog.records


def test_names_in_several_parts_are_reported_with_a_way_out(tmp_path):
    for part in ("test", "train"):
        write(tmp_path / part / "images/0.png")
        write(tmp_path / part / "masks/0.png")
    with pytest.raises(DatasetError, match=r"Rename one or take one part .*--subset=test, --subset=train\+val"):
        read_samples(tmp_path, "all")
    assert len(read_samples(tmp_path, "test")) == 1


def test_cellposes_by_products_beside_images_and_labels_are_ignored(tmp_path):
    # cellpose --save_png --save_tif --save_outlines --save_flows --save_mpl: endings are joined.
    for name in ("a.png", "b_outlines.png"):
        stem, grey = name.removesuffix(".png"), np.full((12, 16), 90, np.uint8)
        write(tmp_path / name, grey)
        write(tmp_path / f"{stem}_cp_masks.png")
        for ending in ("_outlines_cp_masks.png", "_flows_cp_masks.tif", "_dP_cp_masks.tif", "_cp_output_cp_masks.png"):
            write(tmp_path / f"{stem}{ending}", grey)
        for ending in ("_outlines.png", "_flows.tif", "_dP.tif", "_cellprob.tif", "_cp_output.png"):
            write(tmp_path / f"{stem}{ending}", grey)
        (tmp_path / f"{stem}_seg.npy").write_bytes(b"")
        (tmp_path / f"{stem}_cp_outlines.txt").write_text("1,1,2,2\n")
    samples = read_samples(tmp_path, "all")
    assert {sample.id: sample.truth.path.name for sample in samples} == {
        "a": "a_cp_masks.png",
        "b_outlines": "b_outlines_cp_masks.png",
    }


def test_cellposes_by_products_in_the_folder_of_label_images_are_ignored(tmp_path):
    write(tmp_path / "images/a.png")
    for name in ("a_cp_masks.png", "a_outlines_cp_masks.png", "a_flows_cp_masks.tif", "a_dP_cp_masks.tif"):
        write(tmp_path / "masks" / name)
    assert [sample.truth.path.name for sample in read_samples(tmp_path, "all")] == ["a_cp_masks.png"]
