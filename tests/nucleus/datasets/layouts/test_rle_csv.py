"""Tables of run-length codes: parts by usage, optional columns, and errors that name file and line."""

import numpy as np
import pytest

from nucleus.datasets.dataset import DatasetError
from nucleus.datasets.layouts import read_samples
from nucleus.images.labels import rle_encode

from .files import LABELS, SHAPE, codes, ids, load, write_image


def write_table(root, *rows, header="ImageId,EncodedPixels,Height,Width,Usage"):
    path = root / "solution.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_ignored_rows_are_left_out_unless_asked_for(tmp_path):
    for name in "abc":
        write_image(tmp_path / f"images/{name}.png")
    path = write_table(tmp_path, "a,1 3,12,16,Public", "b,1 3,12,16,Private", "c,1 3,12,16,Ignored")
    for root in (tmp_path, path):
        assert ids(root) == ["a", "b"]
        assert ids(root, "Private") == ["b"] and ids(root, "Ignored") == ["c"]
        assert ids(root, "all+Ignored") == ["a", "b", "c"]
    with pytest.raises(DatasetError, match="no subset 'Secret'; there are all, train, val, Ignored, Private, Public"):
        ids(tmp_path, "Secret")


def test_height_width_and_usage_may_be_missing_and_an_image_may_have_no_nuclei(tmp_path):
    for name in "ab":
        write_image(tmp_path / f"{name}.png")
    write_table(tmp_path, "b,", *[f"a,{code}" for code in codes()], header="ImageId,EncodedPixels")
    (tmp_path / "classes.csv").write_text("ImageId,modality\na,phase contrast\n")
    dataset = load(tmp_path)
    assert [info["id"] for info in dataset.image_info] == ["b", "a"]
    assert [info["modality"] for info in dataset.image_info] == ["unknown", "phase contrast"]
    assert dataset.load_labels(0)[0].max() == 0
    np.testing.assert_array_equal(dataset.load_labels(1)[0], LABELS)


def test_of_overlapping_codes_the_first_keeps(tmp_path, caplog):
    write_image(tmp_path / "a.png")
    first, second = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    first[2:6, 2:6] = True
    second[4:9, 4:9] = True
    write_table(tmp_path, *[f"a,{rle_encode(mask)}" for mask in (first, second)], header="ImageId,EncodedPixels")
    labels = load(tmp_path).load_labels(0)[0]
    np.testing.assert_array_equal(labels, np.where(first, 1, np.where(second, 2, 0)))
    assert "a.png: masks overlap in 4 pixels" in caplog.text


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("190 4", "outside an image of 12 x 16"),
        ("0 4", "outside an image"),
        ("9223372036854775807 9223372036854775807", "outside an image"),
        ("99999999999999999999 1", "whole numbers only"),
        ("1 2 3", "pairs; received 3"),
        ("1 x", "whole numbers only"),
        ("5 4 6 1", "ascending order"),
    ],
)
def test_a_code_that_does_not_fit_its_image_is_named(tmp_path, code, cause):
    write_image(tmp_path / "a.png")
    write_table(tmp_path, "a,1 3,12,16,Public", f"a,{code},12,16,Public")
    with pytest.raises(DatasetError, match=rf"solution\.csv, line 3: .*{cause}"):
        load(tmp_path).load_labels(0)


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        (["a,1 3,12,16"], "line 2: expected 5 fields; found 4"),
        (["a,1 3,12,16,Public,more"], "line 2: expected 5 fields; found 6"),
        (["a,1 3,twelve,16,Public"], "line 2: Height and Width must be whole numbers; found twelve"),
        (["a,1 3,12,16,Public", "a,9 1,12,17,Public"], "line 2: the rows of one image differ in Height and Width"),
        (["b,1 3,12,16,Public"], "line 2: expected one image file of the id 'b'; found none"),
        (['a,"1 3,12,16,Public'], "is no CSV file"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, rows, cause):
    write_image(tmp_path / "a.png")
    write_table(tmp_path, *rows)
    with pytest.raises(DatasetError, match=rf"solution\.csv.*{cause}"):
        load(tmp_path)


def test_codes_of_another_shape_than_the_image_are_named(tmp_path):
    write_image(tmp_path / "a.png")
    write_table(tmp_path, "a,1 3,16,12,Public")
    with pytest.raises(DatasetError, match=r"solution\.csv: .*\(16, 12\), the image .*a\.png has \(12, 16\)"):
        load(tmp_path).load_labels(0)


@pytest.mark.parametrize(
    ("content", "cause"),
    [(b"", "empty"), (b"\xff\xfe\x00", "no CSV file"), (b"ImageId,Codes\n", "expected the columns")],
)
def test_a_table_that_cannot_be_read_is_named(tmp_path, content, cause):
    path = tmp_path / "solution.csv"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"solution\.csv: .*{cause}"):
        read_samples(path, "all")


def test_an_image_without_a_row_has_no_labels(tmp_path):
    for name in ("test/a", "test/b", "other/c"):
        write_image(tmp_path / f"{name}.png")
    write_table(tmp_path, "a,1 3,12,16,Public")
    with pytest.raises(DatasetError, match=r"b\.png: it has no mask file"):
        load(tmp_path)
    assert load(tmp_path, "Public").num_images == 1
    assert [info["id"] for info in load(tmp_path, require_masks=False).image_info] == ["a", "b"]
    failures = []
    assert load(tmp_path, failures=failures).num_images == 1 and len(failures) == 1


def test_an_id_with_several_images_and_several_tables_are_named(tmp_path):
    for name in ("one/a", "two/a"):
        write_image(tmp_path / f"{name}.png")
    path = write_table(tmp_path, "a,1 3,12,16,Public")
    with pytest.raises(DatasetError, match=r"expected one image file of the id 'a'; found .*one.a\.png, .*two.a\.png"):
        load(tmp_path)
    (tmp_path / "more.csv").write_bytes(path.read_bytes())
    with pytest.raises(DatasetError, match=r"expected one CSV file .*; found more\.csv, solution\.csv"):
        load(tmp_path)
