"""COCO JSON: masks as pycocotools reads them, parts, skipped annotations, and errors that name file and entry."""

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from nucleus.datasets.dataset import DatasetError
from nucleus.datasets.layouts import find_layout, read_samples
from nucleus.datasets.layouts.coco_segmentation import compress_runs, decompress_counts, segmentation_pixels
from nucleus.images.labels import rle_encode, rle_runs

from .files import SHAPE, add_annotation, coco, ids, load, write_image, write_json


def one_image(root, *segmentations, **more):
    write_image(root / "a.png")
    content = coco()
    content["images"].append({"id": 7, "file_name": "a.png", "height": 12, "width": 16, **more})
    for segmentation in segmentations:
        add_annotation(content, 7, segmentation)
    write_json(root / "annotations.json", content)
    return content


def reference_mask(segmentation):
    """The mask by pycocotools alone."""
    if isinstance(segmentation, list):
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(segmentation, *SHAPE))).astype(bool)
    if isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, *SHAPE)
    return coco_mask.decode(segmentation).astype(bool)


@pytest.mark.parametrize("seed", range(4))
def test_all_forms_of_a_mask_are_read_as_pycocotools_reads_them(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random(SHAPE) < rng.random()
    compressed = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    text = {"size": [12, 16], "counts": compressed["counts"].decode()}
    flat = mask.T.ravel()
    bounds = np.flatnonzero(np.diff(flat, prepend=False, append=~flat[-1:])).tolist()
    counts = np.diff([0, *bounds]).tolist()
    polygons = [(rng.random(8) * 14).tolist(), [0.5, 0.5, 17.2, 1, 3, 13.5, -2, 5]]
    for segmentation in (text, {"size": [12, 16], "counts": counts}, polygons):
        pixels = segmentation_pixels(segmentation, SHAPE)
        np.testing.assert_array_equal(np.sort(pixels), np.flatnonzero(reference_mask(segmentation)))
    assert decompress_counts(text["counts"]) == counts
    assert compress_runs(*rle_runs(rle_encode(mask), SHAPE), SHAPE) == text


def test_crowds_are_skipped_and_of_overlapping_instances_the_first_keeps(tmp_path, caplog):
    first, second = [[1, 1, 8, 1, 8, 8, 1, 8]], [[5, 5, 12, 5, 12, 11, 5, 11]]
    content = one_image(tmp_path, first, second)
    add_annotation(content, 7, {"size": [12, 16], "counts": [0, 192]}, iscrowd=1)
    write_json(tmp_path / "annotations.json", content)
    labels = load(tmp_path).load_labels(0)[0]
    a, b = reference_mask(first), reference_mask(second)
    np.testing.assert_array_equal(labels, np.where(a, 1, np.where(b, 2, 0)))
    assert f"masks overlap in {np.sum(a & b)} pixels" in caplog.text


def test_coco_files_are_parts_and_images_lie_where_they_usually_do(tmp_path):
    for part, name in (("train2017", "a"), ("val2017", "b/c")):
        write_image(tmp_path / f"{part}/{name}.png")
        content = coco()
        content["images"].append({"id": 1, "file_name": f"{name}.png", "modality": "fluorescence"})
        write_json(tmp_path / f"annotations/instances_{part}.json", content)
    assert ids(tmp_path, "train2017") == ["a"] and ids(tmp_path, "val2017") == ["b_c"]
    assert ids(tmp_path) == ["a", "b_c"]
    dataset = load(tmp_path)
    assert dataset.image_info[0]["modality"] == "fluorescence" and dataset.load_labels(0)[0].max() == 0


def test_images_of_a_file_without_annotations_have_no_labels(tmp_path):
    content = one_image(tmp_path)
    del content["annotations"]
    write_json(tmp_path / "annotations.json", content)
    with pytest.raises(DatasetError, match=r"a\.png: it has no mask file"):
        load(tmp_path)
    assert load(tmp_path, require_masks=False).num_images == 1


@pytest.mark.parametrize(
    ("segmentation", "cause"),
    [
        (None, "expected polygons or a run-length code; found None"),
        ([], r"expected polygons or a run-length code; found \[\]"),
        ([[1, 1, 2, 2]], "three points or more"),
        ([[1, 1, 2, 2, 3, 3, 4]], "three points or more"),
        ([[1, 1, 2, "2", 3, 3]], "three points or more"),
        ([[1, 1, 2, 1e9, 3, 3]], "outside an image of 12 x 16"),
        ([[1, 1, 2, float("nan"), 3, 3]], "outside an image"),
        ({"size": [16, 12], "counts": [192]}, r"of size \[16, 12\] for an image of 12 x 16"),
        ({"size": [12, 16], "counts": [100]}, "add up to 100; the image has 12 x 16"),
        ({"size": [12, 16], "counts": [200, -8]}, "whole numbers"),
        ({"size": [12, 16], "counts": "P"}, "cut off"),
        ({"size": [12, 16], "counts": "!"}, "not possible"),
        ({"size": [12, 16]}, "whole numbers"),
        ({"size": [12, 16], "counts": [True, 191]}, "whole numbers"),
        ({"size": [12, 16], "counts": "o" * 5000}, "too long"),
        ([[1, 1, 10**400, 1, 8, 8]], "OverflowError"),
        ([[1, 1, float("nan"), 1, 8, 8]], "outside an image"),
        ([[True, 1, 8, 1, 8, 8]], "three points"),
    ],
)
def test_a_segmentation_that_cannot_be_used_is_named(tmp_path, segmentation, cause):
    one_image(tmp_path, segmentation)
    with pytest.raises(DatasetError, match=rf"annotations\.json, annotation 1: .*{cause}"):
        load(tmp_path).load_labels(0)


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda c: c["images"].append(c["images"][0]), "the id 7 occurs twice in 'images'"),
        (lambda c: c["images"].append({**c["images"][0], "id": 8}), r"its id 'a' is also that of"),
        (lambda c: c["annotations"].append(c["annotations"][0]), "the id 1 occurs twice in 'annotations'"),
        (lambda c: c["annotations"][0].update(image_id=9), "annotation 1: there is no image 9"),
        (lambda c: c["annotations"][0].update(image_id=[7]), r"annotation 1: there is no image \[7\]"),
        (lambda c: c["annotations"][0].pop("id"), "entry 0 of 'annotations' has no id"),
        (lambda c: c["images"].append("a.png"), "entry 1 of 'images' has no id"),
        (lambda c: c.update(images={}), "expected a list 'images'; found dict"),
        (lambda c: c["images"][0].update(file_name="b.png"), "image 7: there is no b.png in"),
        (lambda c: c["images"][0].update(file_name="../a.png"), "image 7: expected a relative file_name"),
        (lambda c: c["images"][0].pop("file_name"), "image 7: expected a relative file_name; found None"),
        (lambda c: c["images"][0].update(height="12"), "image 7: height and width must be whole numbers"),
        (lambda c: c["images"][0].update(height=True), "image 7: height and width must be whole numbers"),
        (lambda c: c["images"][0].update(modality=["light"]), "image 7: modality must be text"),
        (lambda c: c["images"][0].update(id=True), "entry 0 of 'images' has no id"),
        (lambda c: c["annotations"][0].update(image_id=True), "annotation 1: there is no image True"),
        (lambda c: c["annotations"][0].update(iscrowd="no"), "annotation 1: iscrowd is 0 or 1; found 'no'"),
    ],
)
def test_entries_that_cannot_be_used_are_named(tmp_path, change, cause):
    content = one_image(tmp_path, {"size": [12, 16], "counts": [192]})
    change(content)
    write_json(tmp_path / "annotations.json", content)
    with pytest.raises(DatasetError, match=cause) as error:
        load(tmp_path)
    assert "annotations.json" in str(error.value) or "a.png" in str(error.value)


@pytest.mark.parametrize(
    ("text", "cause"), [("", "is no JSON file"), ('{"images": [', "is no JSON file"), ("[]", ".*expected an object")]
)
def test_a_json_file_that_cannot_be_read_is_named(tmp_path, text, cause):
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=rf"some\.json: {cause}"):
        read_samples(path, "all")


def test_instances_of_another_shape_than_the_image_are_named(tmp_path):
    one_image(tmp_path, height=16, width=12)
    with pytest.raises(DatasetError, match=r"annotations\.json: .*\(16, 12\), the image .*a\.png has \(12, 16\)"):
        load(tmp_path).load_labels(0)


def test_annotations_that_draw_nothing_are_skipped_among_others_and_counted(tmp_path, caplog):
    square, short = [1, 1, 8, 1, 8, 8, 1, 8], [1, 1, 2, 2]
    one_image(tmp_path, [], [square], None, [short], [[9, 9, 12, 9, 12, 11], short])
    labels = load(tmp_path).load_labels(0)[0]
    first, second = reference_mask([square]), reference_mask([[9, 9, 12, 9, 12, 11]])
    np.testing.assert_array_equal(labels, np.where(first, 1, np.where(second, 2, 0)))
    assert caplog.text.count("annotations.json: ") == 1
    assert "4 annotations have no segmentation or a polygon of fewer" in caplog.text and "3 nuclei" in caplog.text


@pytest.mark.parametrize("folder", ["", "images", "train2017", "images/train2017"])
def test_images_are_looked_for_beside_the_folder_of_a_named_json_file(tmp_path, folder):
    write_image(tmp_path / folder / "a.png")
    path = tmp_path / "annotations/instances_train2017.json"
    write_json(path, {"images": [{"id": 1, "file_name": "a.png"}], "annotations": []})
    assert ids(path) == ids(tmp_path) == ids(path, "train2017") == ["a"]


def test_backslashes_in_a_file_name_may_be_slashes(tmp_path):
    write_image(tmp_path / "images/more/a.png")
    content = {"images": [{"id": 1, "file_name": "more\\a.png"}], "annotations": []}
    write_json(tmp_path / "annotations.json", content)
    assert ids(tmp_path) == ["more_a"]
    content["images"][0]["file_name"] = "..\\a.png"
    write_json(tmp_path / "annotations.json", content)
    with pytest.raises(DatasetError, match="image 1: expected a relative file_name"):
        load(tmp_path)


def test_the_root_folder_of_roboflow_has_its_parts(tmp_path):
    for number, part in enumerate(("train", "valid", "test")):
        name = f"{part}_jpg.rf.0123.png"
        write_image(tmp_path / part / name, number)
        content = coco()
        content["images"].append({"id": 0, "file_name": name, "height": 12, "width": 16})
        add_annotation(content, 0, [[2, 4, 9, 4, 9, 9, 2, 9]])
        write_json(tmp_path / part / "_annotations.coco.json", content)
    (tmp_path / "README.roboflow.txt").touch()
    assert find_layout(tmp_path).name == "coco"
    assert ids(tmp_path, "train") == ["train_jpg.rf.0123"] and ids(tmp_path, "val") == ["valid_jpg.rf.0123"]
    assert len(ids(tmp_path, "all")) == 3
    dataset = load(tmp_path, "test")
    assert (dataset.load_labels(0)[0] == 1).sum() == 35 and dataset.image_info[0]["collection"] == "test"
    assert ids(tmp_path / "valid") == ["valid_jpg.rf.0123"]
