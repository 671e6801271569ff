"""Results in every format are the same label image to a reader of that format that is not this project's."""

import importlib.util
import json
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import openpyxl
import pandas as pd
import pytest
import roifile
import shapely
import tifffile
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from skimage.draw import polygon2mask

import nucleus
from nucleus import cli
from nucleus.datasets.layouts.drawn_files import read_any_labels
from nucleus.images.decoding import RawImage
from nucleus.images.outlines import draw_outlines, line_width
from nucleus.prediction.writers import Record, open_writers
from nucleus.prediction.writers import workbook as workbook_module


@pytest.fixture(scope="module")
def records():
    """Shipped images: nuclei that touch, at the border, with a hole, and in several pieces; and one without nuclei."""
    dataset = nucleus.NucleusDataset()
    dataset.load_nucleus(nucleus.shipped_data(), "train")
    made = []
    for number, index in enumerate((4, 9), start=1):
        image, (labels, _) = dataset.load_image(index), dataset.load_labels(index)
        largest = int(np.bincount(labels.ravel())[1:].argmax()) + 1
        y, x = (int(np.median(axis)) for axis in np.nonzero(labels == largest))
        assert (labels[y - 2 : y + 3, x - 2 : x + 3] == largest).all()
        labels[y - 1 : y + 2, x - 1 : x + 1] = 0
        # The last nucleus becomes a piece of the first.
        labels[labels == labels.max()] = 1
        right, left = labels[:, 1:], labels[:, :-1]
        assert ((right != left) & (right > 0) & (left > 0)).any(), "no nuclei touch"
        assert (labels[0].any() or labels[-1].any()) and (labels[:, 0].any() or labels[:, -1].any())
        made.append(record(f"image {number}", image, labels))
    made.append(record("none", image, np.zeros_like(labels)))
    return made


def record(name, image, labels):
    scores = np.linspace(0.9, 0.4, labels.max(initial=0)).astype(np.float32)
    raw = RawImage(image, ("red", "green", "blue"), (0, 1, 2), 0.325)
    return Record(name, f"folder/{name}.png", image, labels, scores, raw)


@pytest.fixture
def write(tmp_path, records):
    """Writes the records in one format; returns the folder."""

    def write(name, records=records):
        (writer,) = open_writers(tmp_path, [name])
        for one in records:
            writer.add(one)
        writer.close()
        return tmp_path

    return write


def test_png_labels_are_read_by_opencv(write, records):
    folder = write("png")
    for one in records:
        pixels = cv2.imread(str(folder / "labels" / f"{one.id}.png"), cv2.IMREAD_UNCHANGED)
        assert pixels.dtype == np.uint16
        np.testing.assert_array_equal(pixels, one.labels)


def test_tiff_labels_state_the_size_of_a_pixel_for_imagej_and_as_ome(write, records):
    many = record("many", records[0].image, 1 + np.arange(2**16).reshape(256, 256))
    folder = write("tif", [*records, many])
    for one in records:
        with tifffile.TiffFile(folder / "labels" / f"{one.id}.tif") as file:
            assert file.is_imagej and file.imagej_metadata["unit"] == "um"
            above, below = file.pages[0].tags["XResolution"].value
            assert below / above == pytest.approx(0.325)
            np.testing.assert_array_equal(file.asarray(), one.labels)
        assert nucleus.read_raw(folder / "labels" / f"{one.id}.tif").pixel_size == pytest.approx(0.325)
    with tifffile.TiffFile(folder / "labels" / "many.tif") as file:
        assert file.is_ome and 'PhysicalSizeX="0.325"' in file.ome_metadata
        np.testing.assert_array_equal(file.asarray(), many.labels)


def test_geojson_is_valid_and_the_same_labels_to_shapely(write, records):
    folder = write("geojson")
    for one in records:
        path = folder / "geojson" / f"{one.id}.geojson"
        features = json.loads(path.read_text())["features"]
        height, width = one.labels.shape
        y, x = np.mgrid[:height, :width] + 0.5
        found = np.zeros_like(one.labels)
        for feature in features:
            geometry = shapely.from_geojson(json.dumps(feature["geometry"]))
            assert geometry.is_valid, shapely.is_valid_reason(geometry)
            left, top, right, bottom = (int(side) for side in geometry.bounds)
            window = np.s_[top:bottom, left:right]
            found[window][shapely.contains_xy(geometry, x[window], y[window])] = int(feature["properties"]["name"])
        np.testing.assert_array_equal(found, one.labels)
        np.testing.assert_array_equal(read_any_labels(path, one.labels.shape, "image"), one.labels)
        kinds = {feature["geometry"]["type"] for feature in features}
        holes = sum(len(f["geometry"]["coordinates"]) > 1 for f in features if f["geometry"]["type"] == "Polygon")
        assert one.id == "none" or (kinds == {"Polygon", "MultiPolygon"} and holes == 1)


def test_geojson_is_what_qupath_imports(write, records):
    (feature, *_) = features = json.loads((write("geojson") / "geojson" / "image 1.geojson").read_text())["features"]
    assert feature["type"] == "Feature" and feature["properties"]["objectType"] == "detection"
    assert feature["properties"]["classification"]["name"] == "Nucleus"
    assert len({one["id"] for one in features}) == len(features)
    for one, measured in zip(features, records[0].nuclei.to_dict("records"), strict=True):
        numbers = one["properties"]["measurements"]
        assert all(isinstance(value, int | float) for value in numbers.values()) and "label" not in numbers
        for name in ("area", "mean_intensity", "area_um2", "circularity"):
            assert numbers[name] == pytest.approx(measured[name])
        assert numbers["score"] == pytest.approx(records[0].scores[measured["label"] - 1])


def test_rois_are_the_same_labels_to_roifile(write, records):
    folder = write("roi")
    for one in records[:2]:
        path = folder / "rois" / f"{one.id}.zip"
        found = np.zeros_like(one.labels)
        rois = roifile.roiread(path)
        for roi in rois:
            mask = np.zeros(one.labels.shape, bool)
            for ring in roi.coordinates(multi=True):
                # scikit-image counts from the centre of the first pixel; holes are inside two rings.
                mask ^= polygon2mask(one.labels.shape, ring[:, ::-1].astype(float) - 0.5)
            assert roi.properties["label"] == int(roi.name)
            assert roi.properties["score"] == pytest.approx(one.scores[int(roi.name) - 1], rel=1e-6)
            y, x = np.nonzero(mask)
            assert (roi.left, roi.top, roi.right, roi.bottom) == (x.min(), y.min(), x.max() + 1, y.max() + 1)
            found[mask] = int(roi.name)
        assert any(roi.composite for roi in rois) and not all(roi.composite for roi in rois)
        np.testing.assert_array_equal(found, one.labels)
        np.testing.assert_array_equal(read_any_labels(path, one.labels.shape, "image"), one.labels)
    empty = folder / "rois" / "none.zip"
    assert zipfile.ZipFile(empty).namelist() == [] and not read_any_labels(empty, one.labels.shape, "image").any()


def test_coco_is_the_same_labels_and_scores_to_pycocotools(write, records):
    folder = write("coco")
    truth = COCO(str(folder / "coco_instances.json"))
    results = truth.loadRes(str(folder / "coco_results.json"))
    assert [image["file_name"] for image in truth.dataset["images"]] == [f"{one.id}.png" for one in records]
    for number, one in enumerate(records, start=1):
        for source in (truth, results):
            found, scores = np.zeros_like(one.labels), []
            for position, annotation in enumerate(source.loadAnns(source.getAnnIds(imgIds=[number])), start=1):
                mask = source.annToMask(annotation).astype(bool)
                found[mask] = np.unique(one.labels[one.labels > 0])[position - 1]
                assert annotation["area"] == mask.sum()
                scores.append(annotation.get("score"))
            np.testing.assert_array_equal(found, one.labels)
        np.testing.assert_allclose(scores, one.scores[np.unique(one.labels[one.labels > 0]) - 1])


def test_run_lengths_are_the_same_labels_to_pycocotools(write, records):
    table = pd.read_csv(write("rle") / "submission.csv")
    for one in records:
        height, width = one.labels.shape
        found = np.zeros_like(one.labels)
        codes = table["EncodedPixels"][table["ImageId"] == one.id].dropna()
        for label, code in zip(np.unique(one.labels[one.labels > 0]), codes, strict=True):
            counts, at = [], 0
            for start, length in np.array(code.split(), int).reshape(-1, 2).tolist():
                counts += [start - 1 - at, length]
                at = start - 1 + length
            counts.append(height * width - at)
            code = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
            found[coco_mask.decode(code).astype(bool)] = label
        np.testing.assert_array_equal(found, one.labels)


def test_the_workbook_holds_both_tables(write, records, monkeypatch):
    formula = record("=1+1", records[0].image, records[0].labels)
    path = write("xlsx", [*records, formula]) / "measurements.xlsx"
    write("csv", [*records, formula])
    for sheet in ("nuclei", "images"):
        found, expected = pd.read_excel(path, sheet_name=sheet), pd.read_csv(path.with_name(f"{sheet}.csv"))
        assert list(found) == list(expected)
        for column in expected:
            if expected[column].dtype.kind in "if":
                np.testing.assert_allclose(found[column], expected[column], rtol=1e-3, atol=1e-4, err_msg=column)
            else:
                assert found[column].tolist() == expected[column].tolist()
    book = openpyxl.load_workbook(path)
    assert book.sheetnames == ["nuclei", "images"] and book["images"]["A5"].data_type == "s"
    assert book["images"]["A5"].value == "=1+1" and book["nuclei"]["B2"].value == 1
    monkeypatch.setattr(workbook_module, "SHEET_ROWS", 40)
    book = openpyxl.load_workbook(write("xlsx") / "measurements.xlsx")
    rows = [sheet.max_row - 1 for sheet in book if sheet.title.startswith("nuclei")]
    assert sum(rows) == sum(len(one.nuclei) for one in records) and max(rows) <= 39 and len(rows) > 1


@pytest.mark.parametrize("name", ["csv", "xlsx", "coco", "rle"])
def test_a_dropped_image_is_in_no_file_of_the_run(tmp_path, records, name):
    written = []
    for folder, dropped in (("with", records[1:2]), ("without", [])):
        (writer,) = open_writers(tmp_path / folder, [name])
        for one in [records[0], *dropped, records[2]]:
            writer.add(one)
            if dropped and one is dropped[0]:
                writer.drop(one)
        writer.drop(records[1])
        writer.close()
        written.append({path.name: path for path in (tmp_path / folder).iterdir()})
    assert written[0].keys() == written[1].keys()
    for first, second in zip(*(files.values() for files in written), strict=True):
        if name == "xlsx":
            first, second = (pd.concat(pd.read_excel(path, sheet_name=None)) for path in (first, second))
            pd.testing.assert_frame_equal(first, second)
        else:
            assert first.read_bytes() == second.read_bytes()


def test_without_scores_there_are_none_in_any_format(write, records):
    plain = [replace(one, scores=None) for one in records]
    folder = write("coco", plain)
    assert (folder / "coco_instances.json").exists() and not (folder / "coco_results.json").exists()
    write("geojson", plain)
    assert "score" not in (folder / "geojson" / "image 1.geojson").read_text()
    write("roi", plain)
    assert "score" not in roifile.roiread(folder / "rois" / "image 1.zip")[0].properties


def test_lines_are_wider_in_large_images_and_never_fill_a_nucleus(write, records):
    labels = np.zeros((4000, 3000), np.int32)
    labels[1000:1400, 1000:1400], labels[1000:1400, 1400:1800] = 1, 2
    assert line_width(labels) == 4 and line_width(records[0].labels) == 1
    assert line_width(np.where(labels > 0, labels, 0) * 0) == 4
    small = np.zeros((6000, 6000), np.int32)
    small[::40, ::40] = np.arange(1, 22501).reshape(150, 150)
    assert line_width(small) == 1
    drawn = draw_outlines(np.full((4000, 3000, 3), 90, np.uint8), labels, (255, 255, 0), width=4)
    bright, dark = (drawn == (255, 255, 0)).all(axis=2), (drawn == 30).all(axis=2)
    assert bright[1200, 1000:1400].sum() == 8 and bright[1200, 1400:1800].sum() == 8
    assert dark[1200].sum() == 8 and not dark[labels > 0].any()


def test_a_missing_package_is_named_with_its_extra_before_work_begins(monkeypatch, tmp_path, capsys):
    find = importlib.util.find_spec
    hidden = ("openpyxl", "roifile")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in hidden else find(name, *more))
    image = next(nucleus.shipped_data().glob("stage1_train/*/images/*.png"))
    for name, package in (("xlsx", "openpyxl"), ("roi", "roifile")):
        assert cli.main(["detect", str(image), f"--write=csv,{name}", f"--output={tmp_path / 'out'}"]) == 1
        assert f"needs {package}" in (error := capsys.readouterr().err) and "[exchange]" in error
    assert not (tmp_path / "out").exists()


def test_the_command_writes_what_is_asked_for(tmp_path, capsys):
    image = sorted(nucleus.shipped_data().glob("stage1_train/*/images/*.png"))[0]
    output = tmp_path / "out"
    write = "--write=labels,geojson,roi,coco,xlsx"
    assert cli.main(["detect", str(image), "--preset=otsu", write, "--label-format=tif", f"--output={output}"]) == 0
    files = (path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file())
    written = sorted(name for name in files if not name.startswith(".nucleus/"))
    name = image.stem
    assert written == [
        "coco_instances.json",
        "coco_results.json",
        f"geojson/{name}.geojson",
        f"labels/{name}.tif",
        "manifest.json",
        "measurements.xlsx",
        f"rois/{name}.zip",
    ]
    with pytest.raises(SystemExit):
        cli.main(["detect", str(image), "--write=pdf"])
    assert "expected some of labels, overlays, csv" in capsys.readouterr().err
