"""Result files are read back and compared with what was found."""

import csv
from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest

from nucleus.images.decoding import RawImage
from nucleus.images.labels import rle_decode
from nucleus.measurement import measure
from nucleus.models.base import Prediction
from nucleus.prediction.detection import detect, write_detections
from nucleus.prediction.inputs import collect_images
from nucleus.prediction.writers import Record, open_writers
from nucleus.prediction.writers.tables import NUCLEI


@pytest.fixture
def labels():
    labels = np.zeros((20, 30), np.int32)
    labels[2:6, 3:9], labels[6:12, 3:5], labels[15:19, 20:24] = 1, 2, 3
    return labels


@pytest.fixture
def write(tmp_path):
    """Writes records in one format; returns the folder."""

    def write(name, *records):
        (writer,) = open_writers(tmp_path, [name])
        for record in records:
            writer.add(record)
        writer.close()
        return tmp_path

    return write


def record(name, labels, scores=(), grey=0):
    image = np.full((*labels.shape, 3), grey, np.uint8)
    raw = RawImage(image, ("red", "green", "blue"), (0, 1, 2))
    return Record(name, f"{name}.png", image, labels, np.array(scores, np.float32), raw)


def test_overlay_is_rgb(write, labels):
    plain = record("a", np.zeros_like(labels))
    plain.image[..., 0] = 90
    overlay = write("overlays", plain) / "overlays" / "a.png"
    np.testing.assert_array_equal(cv2.imread(str(overlay))[..., ::-1], plain.image)


def test_submission_is_what_kaggle_reads(write, labels):
    path = write("rle", record("one", labels), record("none", np.zeros_like(labels))) / "submission.csv"
    text = path.read_text()
    assert text.startswith("ImageId,EncodedPixels\none,") and text.endswith("\nnone,\n")
    with open(path, newline="") as file:
        codes = [row["EncodedPixels"] for row in csv.DictReader(file) if row["ImageId"] == "one"]
    masks = np.stack([rle_decode(code, labels.shape) for code in codes])
    assert masks.sum(axis=0).max() == 1
    np.testing.assert_array_equal((masks * np.array([1, 2, 3])[:, None, None]).sum(axis=0), labels)


def test_nuclei_are_measured(write, labels):
    records = record("a", labels, [0.9, 0.8, 0.7], grey=60), record("b", labels * 0)
    table = pd.read_csv(write("csv", *records) / "nuclei.csv")
    in_pixels = tuple(name for name in NUCLEI.columns if not name.endswith(("_um", "_um2")))
    assert tuple(table.columns) == in_pixels and list(table["ImageId"]) == ["a"] * 3
    # What the table has always held stays in front.
    assert NUCLEI.columns[:13] == tuple(
        [
            "ImageId",
            "label",
            "score",
            "area",
            "centroid_y",
            "centroid_x",
            "y1",
            "x1",
            "y2",
            "x2",
            "eccentricity",
            "solidity",
            "mean_intensity",
        ]
    )
    first = table.iloc[0]
    assert (first["ImageId"], first["label"], first["area"]) == ("a", 1, 24)
    assert (first["y1"], first["x1"], first["y2"], first["x2"]) == (2, 3, 6, 9)
    assert (first["centroid_y"], first["centroid_x"], first["mean_intensity"]) == (3.5, 5.5, 60)
    # Second moments of a 4 x 6 rectangle: (n^2 - 1) / 12 along each side.
    assert first["eccentricity"] == pytest.approx(np.sqrt(1 - 15 / 35), abs=0.01)
    assert first["solidity"] == pytest.approx(1)
    np.testing.assert_allclose(table["score"], [0.9, 0.8, 0.7], rtol=1e-6)


def test_a_table_without_nuclei_has_its_header(write, labels):
    text = (write("csv", record("a", labels * 0)) / "nuclei.csv").read_text()
    columns = measure(labels * 0, labels).columns
    assert text == ",".join(["ImageId", "label", "score", *columns[1:]]) + "\n"


def test_nuclei_of_a_few_pixels_have_finite_measures(write):
    labels = np.zeros((8, 8), np.int32)
    labels[1, 1], labels[3, 3:5], labels[5:7, 5:7] = 1, 2, 3
    table = pd.read_csv(write("csv", record("a", labels, np.ones(3))) / "nuclei.csv")
    assert np.isfinite(table.drop(columns="ImageId").to_numpy(float)).all()


def test_columns_of_some_images_are_empty_for_the_others(write, labels):
    colour = record("b", labels, [0.9, 0.8, 0.7], grey=60)
    colour.image[..., 1] = 90
    table = pd.read_csv(write("csv", record("a", labels, [0.9, 0.8, 0.7]), colour) / "nuclei.csv")
    assert table.columns[-15:].tolist() == [
        f"{statistic}_{name}" for name in ("red", "green", "blue") for statistic in ("mean", "min", "max", "std", "sum")
    ]
    assert table["mean_green"].isna().tolist() == [True] * 3 + [False] * 3
    assert table["mean_green"][3] == 90 and table["mean_red"][3] == 60


def test_small_numbers_keep_their_digits(write, labels):
    faint = record("a", labels, [0.9, 0.8, 0.7])
    faint = replace(faint, raw=RawImage(np.full((*labels.shape, 1), 1.2345e-6), ("",), (0,)))
    assert pd.read_csv(write("csv", faint) / "nuclei.csv")["mean_intensity"].tolist() == [1.234e-6] * 3


def test_an_interrupted_run_leaves_the_tables_of_what_was_done(tmp_path, write_squares):
    for name in "abc":
        write_squares(f"images/{name}.png", (2, 2))
    dataset, _ = collect_images([tmp_path / "images"])

    def find(name, image):
        if name == "b":
            raise ValueError("too dark")
        if name == "c":
            raise KeyboardInterrupt
        return Prediction((image[..., 0] > 0).astype(np.int32), np.ones(1, np.float32))

    with pytest.raises(KeyboardInterrupt):
        write_detections(find, dataset, tmp_path / "out", progress=False)
    for table in ("images", "nuclei", "submission"):
        assert pd.read_csv(tmp_path / "out" / f"{table}.csv")["ImageId"].tolist() == ["a"]


def test_an_image_that_does_not_fit_into_memory_fails_alone(tmp_path, write_squares, fake_model, monkeypatch):
    for name in "abc":
        write_squares(f"in/{name}.png", (3, 3))
    write_squares("in/b.png", (3, 3), (15, 15))

    def find(image):
        if (image > 0).sum() > 48:
            raise MemoryError
        return np.zeros(image.shape[:2], np.int32), np.zeros(0, np.float32)

    dataset, _ = collect_images([tmp_path / "in"])
    run = detect(fake_model(find), dataset, tmp_path / "out", progress=False)
    assert run.images == 2
    (failure,) = run.failures
    assert str(tmp_path / "in" / "b.png") in failure and "32 x 24 pixels" in failure and "TILE_SIZE" in failure

    def read(_):
        raise MemoryError

    monkeypatch.setattr(dataset, "load_image", read)
    run = detect(fake_model(find), dataset, tmp_path / "more", progress=False)
    assert run.images == 0 and len(run.failures) == 3 and "a.png: the image does not fit into memory" in run.failures[0]


def test_without_an_image_nothing_is_written_and_an_unknown_format_is_named(tmp_path, write_squares):
    write_squares("images/a.png")
    dataset, _ = collect_images([tmp_path / "images"])

    def fail(*_):
        raise ValueError("too dark")

    run = write_detections(fail, dataset, tmp_path / "out", progress=False)
    assert len(run.failures) == 1 and run.failures[0].endswith("a.png: too dark") and not run.output.exists()
    with pytest.raises(ValueError, match=r"png, tif, .*Received: 'pdf'"):
        write_detections(fail, dataset, tmp_path / "out", ["png", "pdf"], progress=False)
