"""Exported files are read back and compared with what was found."""

import csv

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from nucleus.images.labels import rle_decode
from nucleus.prediction.export import (
    NUCLEI_COLUMNS,
    draw_outlines,
    nuclei_table,
    submission_rows,
    write_labels,
    write_nuclei,
    write_overlay,
    write_submission,
)


@pytest.fixture
def labels():
    labels = np.zeros((20, 30), np.int32)
    labels[2:6, 3:9] = 1
    labels[6:12, 3:5] = 2
    labels[15:19, 20:24] = 3
    return labels


@pytest.mark.parametrize(
    ("name", "highest", "dtype"),
    [("a.png", 40_000, np.uint16), ("a.tif", 40_000, np.uint16), ("a.TIFF", 70_000, np.int32)],
)
def test_label_images_keep_every_label(tmp_path, labels, name, highest, dtype):
    labels[0, 0] = highest
    path = tmp_path / "new" / name
    write_labels(path, labels)
    back = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if name == "a.png" else tifffile.imread(path)
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, labels)


def test_what_does_not_fit_is_refused_and_the_old_file_stays(tmp_path, labels):
    path = tmp_path / "a.png"
    write_labels(path, labels)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"a\.png: label 210000"):
        write_labels(path, labels * 70_000)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"\.tiff"):
        write_labels(tmp_path / "a.jpg", labels)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_outlines_show_on_every_brightness_and_spare_the_inside(labels, grey):
    image = np.full((*labels.shape, 3), grey, np.uint8)
    drawn = draw_outlines(image, labels).astype(int)
    assert (image == grey).all()
    np.testing.assert_array_equal(drawn[16:18, 21:23], grey)
    np.testing.assert_array_equal(drawn[0, :], grey)
    # Along the border of every nucleus the coloured and the darkened pixel differ clearly.
    assert (abs(drawn[15, 20:24] - drawn[14, 20:24]).max(axis=1) > 100).all()
    assert (drawn[5, 3] != drawn[6, 3]).any(), "touching nuclei have different colours"


def test_one_colour_for_all_outlines(labels):
    drawn = draw_outlines(np.zeros((*labels.shape, 3), np.uint8), labels, colour=(255, 255, 0))
    np.testing.assert_array_equal(np.unique(drawn[drawn.any(axis=2)], axis=0), [[255, 255, 0]])
    with pytest.raises(ValueError, match="differ in shape"):
        draw_outlines(np.zeros((5, 5, 3), np.uint8), labels)


def test_overlay_is_rgb(tmp_path, labels):
    image = np.zeros((*labels.shape, 3), np.uint8)
    image[..., 0] = 90
    write_overlay(tmp_path / "a.png", image, np.zeros_like(labels))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "a.png"))[..., ::-1], image)


def test_submission_is_what_kaggle_reads(tmp_path, labels):
    rows = submission_rows("one", labels) + submission_rows("none", np.zeros_like(labels))
    write_submission(tmp_path / "submission.csv", rows)
    text = (tmp_path / "submission.csv").read_text()
    assert text.startswith("ImageId,EncodedPixels\none,") and text.endswith("\nnone,\n")
    with open(tmp_path / "submission.csv", newline="") as file:
        codes = [row["EncodedPixels"] for row in csv.DictReader(file) if row["ImageId"] == "one"]
    masks = np.stack([rle_decode(code, labels.shape) for code in codes])
    assert masks.sum(axis=0).max() == 1
    np.testing.assert_array_equal((masks * np.array([1, 2, 3])[:, None, None]).sum(axis=0), labels)


def test_nuclei_are_measured(tmp_path, labels):
    image = np.full((*labels.shape, 3), 60, np.uint8)
    table = nuclei_table("a", image, labels, np.array([0.9, 0.8, 0.7], np.float32))
    assert tuple(table.columns) == NUCLEI_COLUMNS
    first = table.iloc[0]
    assert (first["ImageId"], first["label"], first["area"]) == ("a", 1, 24)
    assert (first["y1"], first["x1"], first["y2"], first["x2"]) == (2, 3, 6, 9)
    assert (first["centroid_y"], first["centroid_x"], first["mean_intensity"]) == (3.5, 5.5, 60)
    # Second moments of a 4 x 6 rectangle: (n^2 - 1) / 12 along each side.
    assert first["eccentricity"] == pytest.approx(np.sqrt(1 - 15 / 35), abs=0.01)
    assert first["solidity"] == pytest.approx(1)
    np.testing.assert_allclose(table["score"], [0.9, 0.8, 0.7], rtol=1e-6)

    write_nuclei(tmp_path / "nuclei.csv", [table, nuclei_table("b", image, labels * 0, np.zeros(0))])
    back = pd.read_csv(tmp_path / "nuclei.csv")
    assert list(back["ImageId"]) == ["a"] * 3
    np.testing.assert_allclose(back["eccentricity"], table["eccentricity"], atol=1e-4)


def test_a_table_without_nuclei_has_its_header(tmp_path, labels):
    image = np.zeros((*labels.shape, 3), np.uint8)
    write_nuclei(tmp_path / "nuclei.csv", [nuclei_table("a", image, labels * 0, np.zeros(0))])
    assert (tmp_path / "nuclei.csv").read_text() == ",".join(NUCLEI_COLUMNS) + "\n"


def test_nuclei_of_a_few_pixels_have_finite_measures():
    labels = np.zeros((8, 8), np.int32)
    labels[1, 1], labels[3, 3:5], labels[5:7, 5:7] = 1, 2, 3
    table = nuclei_table("a", np.zeros((8, 8, 3), np.uint8), labels, np.ones(3))
    assert np.isfinite(table.drop(columns="ImageId").to_numpy(float)).all()
