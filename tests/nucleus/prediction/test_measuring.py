"""Label images of any program are measured under their own numbers."""

import logging

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage.measure import regionprops_table

import nucleus
from nucleus import cli
from nucleus.images.writing import write_labels


@pytest.fixture
def field(tmp_path):
    """A shipped image as a 16-bit TIFF of two channels, and a corrected label image: a nucleus is gone."""
    dataset = nucleus.NucleusDataset()
    dataset.load_nucleus(nucleus.shipped_data(), "train")
    dataset.prepare()
    pixels = np.moveaxis(dataset.load_image(0)[..., :2], -1, 0).astype(np.uint16) * 100
    labels, _ = dataset.load_labels(0)
    labels[labels == 2] = 0
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", pixels, ome=True, photometric="minisblack", metadata=metadata)
    write_labels(tmp_path / "corrected" / "a_cp_masks.png", labels)
    return pixels, labels


def measure(tmp_path, labels, *options):
    output = () if any(option.startswith("--output=") for option in options) else (f"--output={tmp_path / 'out'}",)
    return cli.main(["measure", str(tmp_path / labels), str(tmp_path / "images"), *output, *options])


@pytest.mark.parametrize("named", ["corrected", "corrected/a_cp_masks.png"])
def test_the_tables_are_those_of_detect_without_scores(tmp_path, field, named):
    pixels, labels = field
    assert measure(tmp_path, named, "--channel=DAPI") == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith("."))
    assert names == ["images.csv", "manifest.json", "nuclei.csv"]
    table, images = pd.read_csv(tmp_path / "out" / "nuclei.csv"), pd.read_csv(tmp_path / "out" / "images.csv")
    expected = regionprops_table(labels, np.moveaxis(pixels, 0, -1), properties=("label", "area", "intensity_mean"))
    assert table["label"].tolist() == expected["label"].tolist() and 2 not in expected["label"]
    assert table["area"].tolist() == expected["area"].tolist()
    np.testing.assert_allclose(table["area_um2"], expected["area"] * 0.25)
    for column, key in {"mean_intensity": 0, "mean_DAPI": 0, "mean_GFP": 1}.items():
        np.testing.assert_allclose(table[column], expected[f"intensity_mean-{key}"], atol=1e-4)
    assert table.columns[:3].tolist() == ["ImageId", "label", "score"] and table["score"].isna().all()
    assert images["nuclei"].tolist() == [len(table)] and images["pixel_size_um"].tolist() == [0.5]


def test_what_detect_found_is_measured_alike_and_is_never_replaced_by_its_measurements(tmp_path, capsys):
    path = sorted(nucleus.shipped_data().glob("stage1_train/*/images/*.png"))[0]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(path.read_bytes())
    found = tmp_path / "found"
    assert cli.main(["detect", str(tmp_path / "images"), "--preset=otsu", f"--output={found}"]) == 0
    assert measure(tmp_path, "found") == 0
    first, second = (pd.read_csv(folder / "nuclei.csv") for folder in (found, tmp_path / "out"))
    pd.testing.assert_frame_equal(first.drop(columns="score"), second.drop(columns="score"))
    first_images, second_images = (pd.read_csv(folder / "images.csv") for folder in (found, tmp_path / "out"))
    # Labels say nothing about the scale at which a model was shown the image.
    pd.testing.assert_frame_equal(first_images.drop(columns=["scale", "diameter"]), second_images)
    for options, cause in (((), "Replace it with --overwrite"), (("--overwrite",), "is to be read")):
        capsys.readouterr()
        assert measure(tmp_path, "found", f"--output={found}", *options) == 1
        message = capsys.readouterr().err
        assert cause in message and "--resume" not in message
        pd.testing.assert_frame_equal(pd.read_csv(found / "nuclei.csv"), first)
    assert measure(tmp_path, "found") == 1 and measure(tmp_path, "found", "--overwrite") == 0


def test_images_without_labels_and_labels_of_another_size_are_named(tmp_path, field, capsys):
    pixels, labels = field
    tifffile.imwrite(tmp_path / "images" / "b.tif", pixels[0])
    tifffile.imwrite(tmp_path / "images" / "c.tif", pixels[0])
    write_labels(tmp_path / "corrected" / "b.tif", labels[1:])
    assert measure(tmp_path, "corrected", "--channel=1") == 1
    errors = capsys.readouterr().err
    assert "b.tif: the label image has shape (255, 320), its image" in errors and "no label image c.png" in errors
    assert pd.read_csv(tmp_path / "out" / "images.csv")["ImageId"].tolist() == ["a"]
    assert measure(tmp_path, "corrected/a_cp_masks.png", "--channel=1", f"--output={tmp_path / 'other'}") == 1
    assert "is one label image for 3 images" in capsys.readouterr().err
    assert measure(tmp_path, "missing", f"--output={tmp_path / 'other'}") == 1
    assert "there is no such folder" in capsys.readouterr().err


def test_a_binary_mask_is_named(tmp_path, field, caplog):
    cv2.imwrite(str(tmp_path / "corrected" / "a_cp_masks.png"), (field[1] > 0).astype(np.uint8) * 255)
    with caplog.at_level(logging.WARNING):
        assert measure(tmp_path, "corrected", "--channel=1") == 0
    assert "binary mask" in caplog.text
