"""Every layout becomes the same samples, each is told from the others, and what is wrong with one is named."""

import json
import pickle

import cv2
import numpy as np
import pytest
import tifffile
from pycocotools import mask as coco_mask

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.layouts import LAYOUTS, find_layout, read_samples
from nucleus.datasets.layouts.coco_segmentation import compress_runs, decompress_counts, segmentation_pixels
from nucleus.datasets.layouts.label_files import close_gaps
from nucleus.images.labels import rle_encode, rle_runs
from nucleus.images.reading import ImageFileError, read_image

SHAPE = (12, 16)
# Two nuclei that touch and a third; row by row the third comes first.
LABELS = np.zeros(SHAPE, np.int32)
LABELS[4:9, 2:6] = 1
LABELS[4:9, 6:9] = 2
LABELS[1:4, 11:15] = 3


def load(root, subset="all", **options):
    dataset = NucleusDataset()
    dataset.load_nucleus(root, subset, **options)
    dataset.prepare()
    return dataset


def ids(root, subset="all", **options):
    return [sample.id for sample in read_samples(root, subset, **options)]


def write_image(path, seed=0, shape=SHAPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)
    assert cv2.imwrite(str(path), image)
    return image[..., ::-1]


def write_labels(path, labels=LABELS, dtype=np.uint16):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, labels.astype(dtype))
    else:
        assert cv2.imwrite(str(path), labels.astype(dtype))


def codes(labels=LABELS):
    return [rle_encode(labels == number) for number in range(1, labels.max() + 1)]


def make_dsb2018(root):
    for name in "ab":
        write_image(root / f"stage1_train/{name}/images/{name}.png", ord(name))
        for number in (1, 2, 3):
            write_labels(root / f"stage1_train/{name}/masks/{number}.png", (number == LABELS) * 255, np.uint8)


def make_rle_csv(root):
    rows = ["ImageId,EncodedPixels,Height,Width,Usage"]
    for name in "ab":
        write_image(root / f"stage1_test/{name}/images/{name}.png", ord(name))
        rows += [f"{name},{code},12,16,Public" for code in codes()]
    (root / "stage1_solution.csv").write_text("\n".join(rows) + "\n")


def make_glas(root):
    for name in ("train_1", "train_2"):
        write_image(root / f"{name}.bmp", int(name[-1]))
        write_labels(root / f"{name}_anno.bmp", LABELS, np.uint8)


def make_labels(root):
    for name in "ab":
        write_image(root / f"images/{name}.png", ord(name))
        write_labels(root / f"labels/{name}.tif", LABELS, np.uint32)


def make_coco(root):
    content = coco()
    for name in "ab":
        write_image(root / f"images/{name}.png", ord(name))
        content["images"].append({"id": ord(name), "file_name": f"{name}.png", "height": 12, "width": 16})
        for number in (1, 2, 3):
            code = coco_mask.encode(np.asfortranarray(number == LABELS, np.uint8))
            segmentation = {"size": [12, 16], "counts": code["counts"].decode()}
            add_annotation(content, ord(name), segmentation)
    write_json(root / "annotations.json", content)


def coco():
    return {"images": [], "annotations": [], "categories": [{"id": 1, "name": "nucleus"}]}


def add_annotation(content, image_id, segmentation, **more):
    number = len(content["annotations"]) + 1
    entry = {"id": number, "image_id": image_id, "category_id": 1, "segmentation": segmentation, "iscrowd": 0}
    content["annotations"].append({**entry, **more})


def write_json(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


MAKERS = {
    "dsb2018": make_dsb2018,
    "rle-csv": make_rle_csv,
    "glas": make_glas,
    "labels": make_labels,
    "coco": make_coco,
}


@pytest.mark.parametrize("layout", MAKERS)
def test_every_layout_gives_the_same_samples(tmp_path, layout):
    MAKERS[layout](tmp_path)
    assert find_layout(tmp_path) is LAYOUTS[layout]
    dataset = load(tmp_path)
    assert dataset.num_images == 2
    for index in dataset.image_ids:
        labels, class_ids = dataset.load_labels(index)
        np.testing.assert_array_equal(labels, LABELS)
        assert labels.dtype == np.int32 and class_ids.tolist() == [1, 1, 1]
        np.testing.assert_array_equal(dataset.load_image(index), read_image(dataset.image_info[index]["path"]))
    assert pickle.loads(pickle.dumps(dataset)).load_labels(1)[0].max() == 3
    stored = [path for path in (tmp_path / ".label_cache").rglob("*.png")]
    assert len(stored) == 2, "the label images are cached"


@pytest.mark.parametrize("layout", [name for name in MAKERS if name != "dsb2018"])
def test_a_fifth_is_set_aside_where_the_layout_has_no_validation_images(tmp_path, layout):
    MAKERS[layout](tmp_path)
    train, val = ids(tmp_path, "train"), ids(tmp_path, "val")
    assert len(train) == len(val) == 1 and sorted(train + val) == sorted(ids(tmp_path))
    assert sorted(ids(tmp_path, "train+val")) == sorted(train + val)


def test_the_images_set_aside_do_not_depend_on_the_others_order(tmp_path):
    for number in range(20):
        write_image(tmp_path / f"images/{number:02d}.png")
        write_labels(tmp_path / f"labels/{number:02d}.png")
    train, val = ids(tmp_path, "train"), ids(tmp_path, "val")
    assert len(val) == 4 and len(train) == 16 and not set(train) & set(val)
    assert val != train[:4] and val == sorted(val)


def test_what_a_folder_holds_may_be_unclear_and_is_told_then(tmp_path):
    make_labels(tmp_path)
    write_json(tmp_path / "annotations.json", {"images": []})
    with pytest.raises(DatasetError, match=r"any of the layouts labels, coco; .*--layout"):
        read_samples(tmp_path, "all")
    assert ids(tmp_path, layout="labels") == ["a", "b"]
    with pytest.raises(DatasetError, match="no layout 'voc'; there are dsb2018, "):
        read_samples(tmp_path, "all", "voc")


def test_mask_folders_come_before_codes_and_codes_before_bare_images(tmp_path):
    make_rle_csv(tmp_path)
    assert find_layout(tmp_path).name == "rle-csv"
    make_dsb2018(tmp_path)
    assert find_layout(tmp_path).name == "dsb2018"
    (tmp_path / "latin.csv").write_bytes("Größe\n".encode("latin-1"))
    assert find_layout(tmp_path).name == "dsb2018"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_of_another_layout_is_named(tmp_path, layout):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match=str(tmp_path)):
        read_samples(tmp_path, "all", layout)
    with pytest.raises(DatasetError, match="gone: there is no such folder or file"):
        read_samples(tmp_path / "gone", "all", layout)


def test_a_file_must_be_one_that_a_layout_knows(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DatasetError, match=r"notes\.txt: no data set"):
        read_samples(tmp_path / "notes.txt", "all")
    with pytest.raises(DatasetError, match=r"notes\.txt: is a file; the layout labels needs a folder"):
        read_samples(tmp_path / "notes.txt", "all", "labels")


# --- run-length codes ------------------------------------------------------------------------------------------------


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


# --- GlaS ------------------------------------------------------------------------------------------------------------


def make_glands(root, *names):
    for name in names:
        write_image(root / f"{name}.bmp")
        write_labels(root / f"{name}_anno.bmp", LABELS * 7, np.uint8)


def test_glas_parts_grades_and_labels(tmp_path):
    make_glands(tmp_path, "train_1", "train_2", "train_10", "testA_1", "testB_1", "testB_2")
    (tmp_path / "Grade.csv").write_text(
        "name,patient ID, grade (GlaS), grade (Sirinukunwattana et al. 2015)\n"
        "train_1,1, benign, adenomatous\ntestA_1,2, malignant, moderately differentiated\n"
    )
    assert ids(tmp_path, "testA") == ["testA_1"] and ids(tmp_path, "testA+testB") == ["testA_1", "testB_1", "testB_2"]
    assert sorted(ids(tmp_path, "train+val")) == ["train_1", "train_10", "train_2"]
    dataset = load(tmp_path)
    assert [info["id"] for info in dataset.image_info][:3] == ["train_1", "train_2", "train_10"]
    grades = {info["id"]: info["modality"] for info in dataset.image_info}
    assert grades["train_1"] == "h&e-benign" and grades["testA_1"] == "h&e-malignant" and grades["testB_1"] == "h&e"
    np.testing.assert_array_equal(dataset.load_labels(0)[0], LABELS)


def test_glas_images_and_annotations_belong_together(tmp_path):
    make_glands(tmp_path, "train_1", "testA_1")
    (tmp_path / "train_1_anno.bmp").unlink()
    with pytest.raises(DatasetError, match=r"train_1\.bmp: it has no mask file and no label image"):
        load(tmp_path)
    (tmp_path / "testA_1.bmp").unlink()
    with pytest.raises(DatasetError, match=r"testA_1_anno\.bmp: there is no image testA_1"):
        load(tmp_path, "testA")
    write_image(tmp_path / "testA_1.bmp", shape=(16, 12))
    with pytest.raises(DatasetError, match=r"testA_1_anno\.bmp: .*\(12, 16\), its image .*testA_1\.bmp has \(16, 12\)"):
        load(tmp_path, "testA").load_labels(0)
    (tmp_path / "Grade.csv").write_text("name,grade\n")
    with pytest.raises(DatasetError, match=r"Grade\.csv: expected the columns name, grade \(GlaS\)"):
        load(tmp_path, "testA")


def test_images_are_fitted_into_a_square_with_their_labels(tmp_path):
    shape = (24, 48)
    write_image(tmp_path / "images/a.png", shape=shape)
    labels = np.zeros(shape, np.int32)
    labels[4:12, 8:24] = 1
    labels[20, 40] = 2
    labels[14:22, 30:38] = 3
    write_labels(tmp_path / "labels/a.png", labels)
    dataset = NucleusDataset(fit=24)
    dataset.load_nucleus(tmp_path, "all")
    image, fitted = dataset.load_image(0), dataset.load_labels(0)[0]
    assert image.shape == (24, 24, 3) and fitted.shape == (24, 24)
    assert not image[:6].any() and not image[18:].any() and image[6:18].any(axis=(1, 2)).all()
    expected = np.zeros((24, 24), np.int32)
    expected[6 + 2 : 6 + 6, 4:12] = 1
    expected[6 + 7 : 6 + 11, 15:19] = 2 + labels[20 + 1 : 22, 41:42].any()
    kept = np.unique(fitted)
    assert kept.tolist() == list(range(len(kept))), "labels stay without a gap"
    np.testing.assert_array_equal(fitted == 1, expected == 1)
    np.testing.assert_array_equal(fitted == kept[-1], expected == 2)
    with pytest.raises(DatasetError, match="fit=0"):
        NucleusDataset(fit=0)


# --- images and label images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a.tif", "masks/a.tif"),
        ("images/a.png", "labels/a_label.png"),
        ("images/a_mask.png", "masks/a_mask.png"),
        ("a.png", "a_masks.png"),
        ("a.tif", "a_label.tif"),
        ("train/images/a.png", "train/masks/a.png"),
        ("train/a.png", "train/a_masks.tif"),
    ],
)
def test_images_beside_label_images(tmp_path, image, label):
    write_image(tmp_path / image)
    for dtype in (np.uint8, np.uint16, np.uint32) if label.endswith("tif") else (np.uint8, np.uint16):
        write_labels(tmp_path / label, LABELS * 9, dtype)
        np.testing.assert_array_equal(load(tmp_path).load_labels(0)[0], LABELS)


def test_folders_of_sets_are_subsets(tmp_path):
    for part, name in (("train", "a"), ("train", "b"), ("test", "c")):
        write_image(tmp_path / part / f"images/{name}.png")
        write_labels(tmp_path / part / f"masks/{name}.png")
    (tmp_path / "classes.csv").write_text("ImageId,modality\na,one\nc,one\n")
    (tmp_path / "test" / "classes.csv").write_text("ImageId,foreground,background\nc,white,black\n")
    assert sorted(ids(tmp_path, "train") + ids(tmp_path, "val")) == ["a", "b"]
    assert ids(tmp_path, "test") == ["c"] and sorted(ids(tmp_path)) == ["a", "b", "c"]
    assert {sample.id: sample.modality for sample in read_samples(tmp_path, "all")} == {
        "a": "one",
        "b": "unknown",
        "c": "fluorescence",
    }
    write_image(tmp_path / "val/images/a.png")
    write_labels(tmp_path / "val/masks/a.png")
    assert ids(tmp_path, "val") == ["a"] and ids(tmp_path, "train") == ["a", "b"]
    with pytest.raises(DatasetError, match=r"val.images.a\.png: its id 'a' is also that of .*train.images.a\.png"):
        ids(tmp_path, "train+val")


def test_images_and_label_images_belong_together(tmp_path):
    write_image(tmp_path / "images/a.png")
    write_labels(tmp_path / "labels/b.png")
    with pytest.raises(DatasetError, match=r"b\.png: there is no image b for this label image"):
        load(tmp_path)
    write_image(tmp_path / "images/b.png", shape=(5, 5))
    with pytest.raises(DatasetError, match=r"a\.png: it has no mask file and no label image"):
        load(tmp_path)
    failures = []
    dataset = load(tmp_path, failures=failures)
    assert [info["id"] for info in dataset.image_info] == ["b"] and "a.png" in failures[0]
    with pytest.raises(DatasetError, match=r"labels.b\.png: .*\(12, 16\), its image .*b\.png has \(5, 5\)"):
        dataset.load_labels(0)


def test_names_that_are_not_unique_are_named(tmp_path):
    make_labels(tmp_path)
    write_labels(tmp_path / "labels/a_mask.png")
    with pytest.raises(DatasetError, match=r"a_mask\.png: goes by the name 'a' as a\.tif does"):
        load(tmp_path)
    (tmp_path / "labels" / "a_mask.png").unlink()
    write_image(tmp_path / "images/a.tif")
    with pytest.raises(DatasetError, match=r"a\.tif: goes by the name 'a' as a\.png does"):
        load(tmp_path)
    (tmp_path / "images" / "a.tif").unlink()
    (tmp_path / "masks").mkdir()
    with pytest.raises(DatasetError, match="both labels and masks are there"):
        load(tmp_path)


def test_gaps_are_closed_whatever_the_numbers(tmp_path):
    for highest in (5, 2**31 - 1):
        np.testing.assert_array_equal(close_gaps(np.array([[0, 3], [highest, 3]], np.int32)), [[0, 1], [2, 1]])
        np.testing.assert_array_equal(close_gaps(np.array([[2, 3], [highest, 3]], np.int32)), [[1, 2], [3, 2]])


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_label_images_of_64_bits_are_read(tmp_path, dtype):
    write_image(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a_masks.tif", (LABELS * 7).astype(dtype), compression="zlib")
    np.testing.assert_array_equal(load(tmp_path).load_labels(0)[0], LABELS)


@pytest.mark.parametrize("shift", [30, 32, 33])
@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_a_label_above_32_bits_is_named(tmp_path, dtype, shift):
    write_image(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a_masks.tif", LABELS.astype(dtype) << dtype(shift))
    with pytest.raises(ImageFileError, match=r"a_masks\.tif: a label is above 2147483647"):
        load(tmp_path).load_labels(0)


def test_negative_labels_of_64_bits_are_named(tmp_path):
    write_image(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "a_masks.tif", -LABELS.astype(np.int64))
    with pytest.raises(ImageFileError, match=r"a_masks\.tif: no label image but int64"):
        load(tmp_path).load_labels(0)


# --- COCO ------------------------------------------------------------------------------------------------------------


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
    ("text", "cause"), [("", "is no JSON file"), ('{"images": [', "is no JSON file"), ("[]", "expected an object")]
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
