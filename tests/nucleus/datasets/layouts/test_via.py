"""Files of the VGG Image Annotator, versions 1 and 2, JSON, project and CSV, are data sets."""

import csv
import json

import numpy as np
import pytest
from skimage.draw import ellipse

from nucleus.datasets.layouts import find_layout, read_samples
from nucleus.datasets.layouts.base import DatasetError

from .files import SHAPE, ids, load, write_image, write_json

REGIONS = [
    {"name": "polygon", "all_points_x": [1, 5, 5, 1], "all_points_y": [1, 1, 4, 4]},
    {"name": "rect", "x": 8, "y": 1, "width": 3, "height": 4},
    {"name": "circle", "cx": 4, "cy": 8, "r": 2.5},
    {"name": "ellipse", "cx": 12, "cy": 8, "rx": 3, "ry": 1.5, "theta": 0.5},
    {"name": "point", "cx": 1, "cy": 1},
]


def expected():
    labels = np.zeros(SHAPE, np.int32)
    labels[1:4, 1:5], labels[1:5, 8:11] = 1, 2
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    labels[np.hypot(x - 4, y - 8) < 2.5] = 3
    labels[ellipse(8 - 0.5, 12 - 0.5, 1.5, 3, SHAPE, rotation=-0.5)] = 4
    return labels


def entry(name, regions=REGIONS, version=2):
    listed = [{"shape_attributes": one, "region_attributes": {}} for one in regions]
    regions = listed if version == 2 else {str(number): one for number, one in enumerate(listed)}
    return {"filename": name, "size": 100, "regions": regions, "file_attributes": {}}


def annotations(*names, version=2):
    return {f"{name}100": entry(name, version=version) for name in names}


def write_csv(path, *names, header="filename"):
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        columns = ["file_size", "file_attributes", "region_count", "region_id", "region_shape_attributes"]
        rows.writerow([header, *columns, "region_attributes"])
        for name in names:
            for number, one in enumerate(REGIONS):
                rows.writerow([name, 100, "{}", len(REGIONS), number, json.dumps(one), "{}"])
        rows.writerow(["empty.png", 100, "{}", 0, 0, "{}", "{}"])


def write(root, kind):
    if kind == "project":
        content = annotations("a.png") | {"empty": entry("empty.png", [])}
        write_json(root / "via_project.json", {"_via_settings": {}, "_via_img_metadata": content})
    elif kind == "csv":
        write_csv(root / "via.csv", "a.png")
    elif kind == "csv of version 1":
        write_csv(root / "via.csv", "a.png", header="#filename")
    else:
        content = annotations("a.png", version=int(kind)) | {"empty": entry("empty.png", [], int(kind))}
        write_json(root / "via_region_data.json", content)


@pytest.mark.parametrize("kind", ["1", "2", "project", "csv", "csv of version 1"])
@pytest.mark.parametrize("named", [True, False])
def test_every_shape_of_every_version_is_read(tmp_path, kind, named, caplog):
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "empty.png")
    write(tmp_path, kind)
    root = next(path for path in tmp_path.iterdir() if path.name.startswith("via")) if named else tmp_path
    assert find_layout(root).name == "via"
    dataset = load(root)
    assert [info["id"] for info in dataset.image_info] == ["a"]
    labels = dataset.load_labels(0)[0]
    assert labels.max() == 4 and np.count_nonzero(labels != expected()) <= 2
    assert "1 images have no region" in caplog.text and "1 points and lines" in caplog.text


def test_parts_are_folders_with_a_file_each(tmp_path):
    for part, name in (("train", "a"), ("val", "b")):
        write_image(tmp_path / part / f"{name}.png")
        write_json(tmp_path / part / "via_region_data.json", annotations(f"{name}.png"))
    assert ids(tmp_path, "train") == ["a"] and ids(tmp_path, "val") == ["b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": {"filename": "a.png", "regions": 3}}, "expected a filename and regions"),
        ({"a": {"filename": "a.png", "regions": [3]}}, "a.png, region 1: expected an object with shape_attributes"),
        ({"a": entry("../a.png")}, "a relative filename"),
        ({"a": entry("b.png")}, "there is no b.png"),
        ({"a": entry("b" * 5000)}, "there is no bbb"),
        ({"a": entry("b\0.png")}, "there is no b\0.png"),
        ({"a": entry("a.png"), "b": entry("a.png")}, "a.png occurs twice"),
    ],
)
def test_malformed_files_are_named(tmp_path, content, message):
    write_image(tmp_path / "a.png")
    write_json(tmp_path / "via.json", content)
    with pytest.raises(DatasetError, match=rf"via\.json.*{message}"):
        read_samples(tmp_path, "all", "via")


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"name": "circle", "cx": 1, "cy": 1}, "expected a number 'r'"),
        ({"name": "polygon", "all_points_x": [1, 2, 3], "all_points_y": [1, 2]}, "as many x as y"),
        ({"name": "polygon", "all_points_x": [1, None, 3], "all_points_y": [1, 2, 3]}, "a list of numbers"),
        ({"name": "star"}, "found 'star'"),
    ],
)
def test_malformed_regions_are_named(tmp_path, region, message):
    write_image(tmp_path / "a.png")
    write_json(tmp_path / "via.json", {"a": entry("a.png", [region])})
    with pytest.raises(DatasetError, match=rf"via\.json, a\.png, region 1: .*{message}"):
        load(tmp_path).load_labels(0)


@pytest.mark.parametrize("kind", ["2", "csv"])
def test_mutated_files_are_read_or_refused_by_name(tmp_path, kind):
    write_image(tmp_path / "a.png")
    write(tmp_path, kind)
    path = next(path for path in tmp_path.iterdir() if path.name.startswith("via"))
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(150):
        changed = bytearray(data)
        for at in rng.integers(0, len(data), 2):
            changed[at] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            for sample in read_samples(path, "all", "via"):
                assert sample.truth.read(sample.image).shape == SHAPE
        except DatasetError as error:
            assert str(path) in str(error)
