"""Corrected ROIs of ImageJ, GeoJSON of QuPath, `_seg.npy` and labelme JSON are data sets and label images."""

import base64
import logging
import sys
import zipfile

import cv2
import numpy as np
import pandas as pd
import pytest
import roifile

from nucleus import cli
from nucleus.datasets.label_index import LabelIndex
from nucleus.datasets.layouts import LAYOUTS, find_layout, read_samples
from nucleus.datasets.layouts.base import DatasetError
from nucleus.datasets.layouts.drawn_files import read_any_labels
from nucleus.images.reading import ImageFileError

from .files import (
    LABELS,
    SHAPE,
    ids,
    labelme,
    load,
    write_geojson,
    write_image,
    write_json,
    write_labelme,
    write_labels,
    write_roi,
    write_seg,
)

MAKERS = {
    "imagej-roi": (write_roi, ["a.zip", "a_rois.zip", "a_RoiSet.zip"]),
    "geojson": (write_geojson, ["a.geojson", "a_labels.geojson"]),
    "seg-npy": (write_seg, ["a_seg.npy"]),
    "labelme": (write_labelme, ["a.json"]),
}
CASES = [(kind, name) for kind, (_, names) in MAKERS.items() for name in names]


@pytest.mark.parametrize(("kind", "name"), CASES)
@pytest.mark.parametrize("folders", [("", ""), ("images/", "labels/"), ("train/images/", "train/rois/")])
def test_files_beside_images_are_found_and_read(tmp_path, kind, name, folders):
    write_image(tmp_path / f"{folders[0]}a.png")
    write_image(tmp_path / f"{folders[0]}b.png")
    MAKERS[kind][0](tmp_path / f"{folders[1]}{name}")
    (tmp_path / f"{folders[0]}a_flows.tif").write_bytes(b"by-product")
    assert find_layout(tmp_path) is LAYOUTS[kind]
    dataset = load(tmp_path, require_masks=False)
    assert [info["id"] for info in dataset.image_info] == ["a", "b"]
    np.testing.assert_array_equal(dataset.load_labels(0)[0], LABELS)
    assert dataset.image_info[1]["truth"] is None


@pytest.mark.parametrize("kind", MAKERS)
def test_files_of_a_kind_can_be_trained_on_and_evaluated(tmp_path, kind):
    make, (name, *_) = MAKERS[kind]
    for image in "abcdef":
        write_image(tmp_path / f"{image}.png", ord(image))
        make(tmp_path / (image + name[1:]))
        make(tmp_path / "found" / (image + name[1:]))
    assert len(ids(tmp_path, "train")) == 5 and len(ids(tmp_path, "val")) == 1
    arguments = ["evaluate", f"--dataset={tmp_path}", "--subset=all", f"--output={tmp_path / 'scores'}"]
    # A model that is right: equal files as predictions.
    assert cli.main([*arguments, f"--predictions={tmp_path / 'found'}"]) == 0
    scores = pd.read_csv(next((tmp_path / "scores").glob("*.csv")))
    assert len(scores) == 6


@pytest.mark.parametrize(("kind", "name"), CASES)
@pytest.mark.parametrize("single", [True, False])
def test_files_of_a_kind_are_measured(tmp_path, kind, name, single):
    image = tmp_path / "a.png"
    write_image(image)
    MAKERS[kind][0](tmp_path / name)
    labels = tmp_path / name if single else tmp_path
    assert cli.main(["measure", str(labels), str(image), f"--output={tmp_path / 'out'}"]) == 0
    table = pd.read_csv(tmp_path / "out" / "nuclei.csv")
    assert table["label"].tolist() == [1, 2, 3] and table["area"].tolist() == [20, 15, 12]


def test_seg_npy_keeps_its_numbers_where_it_is_measured(tmp_path):
    write_image(tmp_path / "a.png")
    write_seg(tmp_path / "a_seg.npy", LABELS * 10)
    assert np.unique(read_any_labels(tmp_path / "a_seg.npy", SHAPE, "a")).tolist() == [0, 10, 20, 30]
    assert load(tmp_path).load_labels(0)[0].max() == 3


def test_measure_writes_other_formats_too(tmp_path):
    write_image(tmp_path / "a.png")
    write_seg(tmp_path / "a_seg.npy")
    arguments = ["measure", str(tmp_path), str(tmp_path / "a.png"), f"--output={tmp_path / 'out'}"]
    assert cli.main([*arguments, "--write=roi,geojson,labels"]) == 0
    for path in ("rois/a.zip", "geojson/a.geojson", "labels/a.png"):
        np.testing.assert_array_equal(read_any_labels(tmp_path / "out" / path, SHAPE, "a"), LABELS)


def test_label_images_come_before_what_the_same_program_writes_beside_them(tmp_path, caplog):
    write_image(tmp_path / "a.png")
    write_labels(tmp_path / "a_cp_masks.png")
    write_seg(tmp_path / "a_seg.npy", (LABELS == 1).astype(np.int32))
    with caplog.at_level(logging.WARNING):
        assert find_layout(tmp_path).name == "labels"
    assert "--layout=seg-npy" in caplog.text
    assert load(tmp_path).load_labels(0)[0].max() == 3 and load(tmp_path, layout="seg-npy").load_labels(0)[0].max() == 1
    assert LabelIndex(tmp_path, leave_out=[tmp_path / "a.png"]).find("a").name == "a_cp_masks.png"


def test_two_kinds_without_label_images_are_refused_with_their_names(tmp_path):
    write_image(tmp_path / "a.png")
    write_roi(tmp_path / "a.zip")
    write_geojson(tmp_path / "a.geojson")
    with pytest.raises(DatasetError, match=r"imagej-roi, geojson; .*--layout"):
        read_samples(tmp_path, "all")
    assert ids(tmp_path, layout="geojson") == ["a"]
    write_roi(tmp_path / "a_rois.zip")
    with pytest.raises(DatasetError, match=r"a_rois\.zip: belongs to the image 'a' as a\.zip does"):
        ids(tmp_path, layout="imagej-roi")


def test_an_image_of_the_very_name_comes_before_one_without_the_ending(tmp_path):
    for name in ("a", "a_roi"):
        write_image(tmp_path / f"{name}.png")
        write_roi(tmp_path / f"{name}.zip", LABELS * (name == "a"))
    assert {sample.id: sample.truth.path.name for sample in read_samples(tmp_path, "all")} == {
        "a": "a.zip",
        "a_roi": "a_roi.zip",
    }
    index = LabelIndex(tmp_path, leave_out=[tmp_path / "a.png", tmp_path / "a_roi.png"])
    assert [index.find(name, ["a", "a_roi"]).name for name in ("a", "a_roi")] == ["a.zip", "a_roi.zip"]


def test_a_file_without_its_image_is_named(tmp_path):
    write_image(tmp_path / "a.png")
    write_geojson(tmp_path / "a.geojson")
    write_geojson(tmp_path / "b.geojson")
    with pytest.raises(DatasetError, match=r"b\.geojson: there is no image b"):
        read_samples(tmp_path, "all")


def polygon(*rings, kind="Polygon", plane=None, **properties):
    closed = [[*map(list, ring), list(ring[0])] for ring in rings]
    geometry = {"type": kind, "coordinates": closed} | ({} if plane is None else {"plane": plane})
    return {"type": "Feature", "geometry": geometry, "properties": properties}


SQUARE = ((1, 1), (5, 1), (5, 5), (1, 5))
REGION = ((0, 0), (16, 0), (16, 12), (0, 12))


def read(tmp_path, content):
    write_json(tmp_path / "a.geojson", content)
    return read_any_labels(tmp_path / "a.geojson", SHAPE, "a")


def test_annotations_are_nuclei_unless_there_are_detections(tmp_path, caplog):
    drawn = [polygon(SQUARE, objectType="annotation"), polygon(REGION, objectType="annotation")]
    assert np.unique(read(tmp_path, {"type": "FeatureCollection", "features": drawn[:1]})).tolist() == [0, 1]
    found = read(tmp_path, [drawn[1], polygon(SQUARE, objectType="detection")])
    assert (found > 0).sum() == 16 and "1 entries are no nuclei and are left out: feature 1 (annotation)" in caplog.text


def test_the_nucleus_of_a_cell_counts_and_points_do_not(tmp_path, caplog):
    cell = polygon(REGION, objectType="cell") | {"nucleusGeometry": polygon(SQUARE)["geometry"]}
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [3, 3]}, "properties": {}}
    assert (read(tmp_path, [cell, point]) > 0).sum() == 16 and "feature 2 (Point)" in caplog.text
    assert (read(tmp_path, [cell, point | {"geometry": "none"}]) > 0).sum() == 16


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"type": "Topology"}, "expected GeoJSON"),
        ([1], "expected GeoJSON"),
        ([polygon(SQUARE[:1])], "feature 1: an outline needs three points"),
        ([{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[["a", 1]]]}}], "rings of points"),
        ([{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": 3}}], "lists of coordinates"),
        ([polygon(SQUARE, plane={"z": 0}), polygon(SQUARE, plane={"z": 1})], "of several planes"),
    ],
)
def test_malformed_geojson_is_named(tmp_path, content, message):
    with pytest.raises(ImageFileError, match=rf"a\.geojson.*{message}"):
        read(tmp_path, content)


def test_every_kind_of_area_of_imagej_is_read_and_others_are_reported(tmp_path, caplog):
    kinds = roifile.ROI_TYPE

    def box(kind, **more):
        roi = roifile.ImagejRoi()
        roi.roitype, roi.left, roi.top, roi.right, roi.bottom = kind, 2, 1, 8, 7
        for name, value in more.items():
            setattr(roi, name, value)
        return roi

    outline = roifile.ImagejRoi.frompoints(np.array([(9, 1), (13, 1), (13, 4.4), (9, 4.4)], np.float32))
    point = roifile.ImagejRoi.frompoints([(3, 3)])
    point.roitype, point.name = kinds.POINT, "spot"
    rois = {"rect": box(kinds.RECT), "oval": box(kinds.OVAL), "freehand": outline, "spot": point}
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, roi in rois.items():
            archive.writestr(f"{name}.roi", roi.tobytes())
    labels = read_any_labels(tmp_path / "a.zip", SHAPE, "a")
    assert (labels == 1).sum() == 36 and (labels == 2).sum() == 12
    assert "1 entries are no nuclei and are left out: spot" in caplog.text and "oval: dropped" in caplog.text
    (tmp_path / "b.roi").write_bytes(rois["oval"].tobytes())
    oval = read_any_labels(tmp_path / "b.roi", SHAPE, "b")
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    np.testing.assert_array_equal(oval > 0, np.hypot(x - 5, y - 4) < 3)


def test_rois_of_several_planes_and_damaged_files_are_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for plane in (1, 2):
            roi = roifile.ImagejRoi.frompoints([(1, 1), (4, 1), (4, 4)], z=plane)
            archive.writestr(f"{plane}.roi", roi.tobytes())
    with pytest.raises(ImageFileError, match=r"a\.zip: its ROIs are of several planes"):
        read_any_labels(tmp_path / "a.zip", SHAPE, "a")
    (tmp_path / "b.zip").write_bytes(b"PK no archive")
    with pytest.raises(ImageFileError, match=r"b\.zip: is no ZIP file"):
        read_any_labels(tmp_path / "b.zip", SHAPE, "b")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("c.txt", "no ROI")
    with pytest.raises(ImageFileError, match=r"c\.zip: no ROI is in it"):
        read_any_labels(tmp_path / "c.zip", SHAPE, "c")
    write_roi(tmp_path / "d.zip")
    with zipfile.ZipFile(tmp_path / "d.zip") as archive:
        data = archive.read("0001.roi")
    for length in (10, 64, 70):
        (tmp_path / "e.roi").write_bytes(data[:length])
        with pytest.raises(ImageFileError, match=r"e\.roi, e: the ROI is damaged"):
            read_any_labels(tmp_path / "e.roi", SHAPE, "e")


def test_without_roifile_rois_name_the_extra(tmp_path, monkeypatch):
    write_roi(tmp_path / "a.zip")
    monkeypatch.setitem(sys.modules, "roifile", None)
    with pytest.raises(ValueError, match=r"need the package roifile: pip install .*\[exchange\]"):
        read_any_labels(tmp_path / "a.zip", SHAPE, "a")


def test_every_shape_of_labelme_is_read(tmp_path, caplog):
    mask = cv2.imencode(".png", np.array([[0, 255], [255, 255]], np.uint8))[1].tobytes()
    write_image(tmp_path / "a.png")
    shapes = [
        {"shape_type": "polygon", "points": [[1, 1], [5, 1], [5, 4], [1, 4]]},
        {"shape_type": "circle", "points": [[11, 3], [13, 3]]},
        {"shape_type": "mask", "points": [[1, 8], [2, 9]], "mask": base64.b64encode(mask).decode()},
        {"shape_type": "rectangle", "points": [[8, 10], [6, 8]], "group_id": 4},
        {"shape_type": "rectangle", "points": [[12, 8], [15, 8], [15, 11], [12, 11]], "group_id": 4},
        {"shape_type": "point", "points": [[1, 1]]},
    ]
    write_json(tmp_path / "a.json", labelme(*shapes))
    expected = np.zeros(SHAPE, np.int32)
    expected[1:4, 1:5] = 1
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    expected[np.hypot(x - 11, y - 3) < 2] = 2
    expected[8, 2], expected[9, 1:3] = 3, 3
    expected[8:10, 6:8], expected[8:11, 12:15] = 4, 4
    np.testing.assert_array_equal(load(tmp_path).load_labels(0)[0], expected)
    assert "shape 6 (point)" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (labelme(shape=(5, 5)), "imageHeight and imageWidth"),
        (labelme({"shape_type": "circle", "points": [[1, 1]]}), "shape 1: a circle has two points"),
        (labelme({"shape_type": "polygon", "points": "no"}), "shape 1: expected a list of points"),
        (labelme({"shape_type": "mask", "points": [[1, 1], [2, 2]], "mask": "?"}), "shape 1: the mask is no image"),
        ({"shapes": 3, "imagePath": ""}, "a list 'shapes'"),
    ],
)
def test_malformed_labelme_is_named(tmp_path, content, message):
    write_json(tmp_path / "a.json", content)
    with pytest.raises(ImageFileError, match=rf"a\.json.*{message}"):
        read_any_labels(tmp_path / "a.json", SHAPE, "a")


@pytest.mark.parametrize("kind", ["imagej-roi", "geojson", "labelme"])
def test_mutated_files_are_read_or_refused_by_name(tmp_path, kind, caplog):
    make, (name, *_) = MAKERS[kind]
    path, rng = tmp_path / name, np.random.default_rng(0)
    make(path)
    data = path.read_bytes()
    for _ in range(150):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            changed[at] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            labels = read_any_labels(path, SHAPE, "a")
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert labels.shape == SHAPE
