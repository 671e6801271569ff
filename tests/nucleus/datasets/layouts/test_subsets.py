"""Subsets by name: the right parts of a data set, and never test images for training."""

import json

import cv2
import numpy as np
import pytest

from nucleus.datasets.dataset import DatasetError
from nucleus.datasets.layouts import read_samples
from nucleus.datasets.layouts.base import Sample, raise_error
from nucleus.datasets.layouts.subsets import read_subset, role


def taken(tmp_path, subset, **counts):
    """The images that a subset takes of parts of so many images, of other names in each."""

    def part(name, count):
        return lambda report: [
            Sample(f"{name}-{number}", tmp_path / f"{name}-{number}.png", None, name) for number in range(count)
        ]

    parts = {name: part(name, count) for name, count in counts.items()}
    return {sample.id for sample in read_subset(parts, subset, tmp_path, raise_error)}


def images(part, count):
    return {f"{part}-{number}" for number in range(count)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("train", "train"),
        ("train2017", "train"),
        ("Training", "train"),
        ("stage1_train", "train"),
        ("val-2", "val"),
        ("valid", "val"),
        ("validation", "val"),
        ("TEST2017", "test"),
        ("testing", "test"),
        ("train_val", None),
        ("trainval", None),
        ("values", None),
        ("plate 1", None),
    ],
)
def test_the_meaning_of_a_part_follows_from_the_words_of_its_name(name, expected):
    assert role(name) == expected


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [("train2017", "val2017", "test2017"), ("training", "validation", "test"), ("train", "valid", "testing")],
)
def test_usual_names_are_taken_for_train_and_val(tmp_path, train, val, test):
    counts = {test: 4, train: 5, val: 3}
    assert taken(tmp_path, "train", **counts) == images(train, 5)
    assert taken(tmp_path, "val", **counts) == images(val, 3)
    assert taken(tmp_path, "all", **counts) == images(train, 5) | images(val, 3) | images(test, 4)


def test_without_a_part_for_validation_a_fifth_of_the_training_part_is_set_aside(tmp_path):
    train, val = (taken(tmp_path, subset, training=10, test=20) for subset in ("train", "val"))
    assert len(val) == 2 and train | val == images("training", 10) and not train & val


def test_the_very_name_comes_first_and_otherwise_one_part_must_be_meant(tmp_path):
    assert taken(tmp_path, "train", train2017=4, train=5, val=2) == images("train", 5)
    with pytest.raises(DatasetError, match="the parts train2014, train2017 could all be meant by 'train'"):
        taken(tmp_path, "train", train2014=4, train2017=5, val2017=2)
    assert len(taken(tmp_path, "train2014+train2017", train2014=4, train2017=5)) == 9


@pytest.mark.parametrize("subset", ["train", "val"])
@pytest.mark.parametrize("names", [("plate1", "plate2"), ("testA", "testB"), ("test",), ("test", "all")])
def test_parts_of_which_none_stands_for_what_is_asked_are_named(tmp_path, subset, names):
    with pytest.raises(DatasetError, match=f"none of its parts stands for '{subset}'; there are {', '.join(names)}"):
        taken(tmp_path, subset, **dict.fromkeys(names, 10))


def test_validation_images_are_not_trained_on(tmp_path):
    assert taken(tmp_path, "val", val2017=5) == images("val2017", 5)
    with pytest.raises(DatasetError, match="none of its parts stands for 'train'; there are val2017"):
        taken(tmp_path, "train", val2017=5)


@pytest.mark.parametrize("parts", [{"nuclei": 10}, {"Public": 4, "Private": 6, "all": 10}])
def test_a_data_set_that_is_one_whole_is_split(tmp_path, parts):
    train, val = (taken(tmp_path, subset, **parts) for subset in ("train", "val"))
    assert len(val) == 2 and len(train) == 8 and not train & val


def test_coco_files_of_the_usual_names_are_train_val_and_test(tmp_path):
    for part in ("train2017", "val2017", "test2017"):
        (tmp_path / part).mkdir()
        assert cv2.imwrite(str(tmp_path / part / f"{part}.png"), np.zeros((4, 5), np.uint8))
        path = tmp_path / "annotations" / f"instances_{part}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"images": [{"id": 1, "file_name": f"{part}.png"}], "annotations": []}))
    assert [sample.id for sample in read_samples(tmp_path, "train")] == ["train2017"]
    assert [sample.id for sample in read_samples(tmp_path, "val")] == ["val2017"]
