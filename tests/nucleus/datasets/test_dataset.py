"""The DSB2018 layout becomes image and label image; every broken layout is named; the label cache is never stale."""

import logging
import os
import pickle
import shutil
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import skimage.io

from nucleus.datasets import cache
from nucleus.datasets.dataset import (
    MODALITIES,
    VAL_IMAGE_IDS,
    DatasetError,
    NucleusDataset,
    read_modalities,
    shipped_data,
)
from nucleus.images.preprocess import Clahe
from nucleus.images.reading import ImageFileError, read_image


def _load(root, subset="stage1_train", require_masks=True, **options):
    dataset = NucleusDataset(**options)
    dataset.load_nucleus(root, subset, require_masks)
    dataset.prepare()
    return dataset


@pytest.mark.parametrize("subset, count", [("train", 10), ("val", 6), ("stage1_train", 16)])
def test_shipped_images_and_masks_are_what_the_files_say(tmp_path, subset, count):
    dataset = _load(shipped_data(), subset, cache_dir=tmp_path)
    assert dataset.num_images == count and dataset.class_names == ["BG", "nucleus"]
    modalities = Counter(info["modality"] for info in dataset.image_info)
    assert set(modalities) == set(MODALITIES.values())
    small = [i for i in dataset.image_ids if os.path.getsize(dataset.image_info[i]["path"]) < 60_000]
    assert small
    for i in small:
        image, (labels, class_ids) = dataset.load_image(i), dataset.load_labels(i)
        path = dataset.image_info[i]["path"]
        np.testing.assert_array_equal(image, skimage.io.imread(path)[..., :3])
        files = sorted(os.listdir(dataset.image_info[i]["masks"]))
        assert labels.dtype == np.int32 and labels.max() == len(class_ids) == len(files)
        assert class_ids.dtype == np.int32 and (class_ids == 1).all()
        for k in (0, len(files) // 2, len(files) - 1):
            mask = skimage.io.imread(os.path.join(dataset.image_info[i]["masks"], files[k])) > 0
            np.testing.assert_array_equal(labels == k + 1, mask)


def test_train_and_val_share_nothing_and_follow_the_customary_ids(tmp_path):
    names = {s: {i["id"] for i in _load(shipped_data(), s, cache_dir=tmp_path).image_info} for s in ("train", "val")}
    assert len(VAL_IMAGE_IDS) == len(set(VAL_IMAGE_IDS)) == 25
    assert names["val"] <= set(VAL_IMAGE_IDS) and not names["train"] & set(VAL_IMAGE_IDS)


def test_load_mask_is_the_label_image_as_a_stack(add_sample, rectangle, tmp_path):
    add_sample("a", [rectangle(0, 0, 3, 3), rectangle(5, 5, 9, 9)])
    masks, class_ids = _load(tmp_path).load_mask(0)
    assert masks.dtype == bool and class_ids.tolist() == [1, 1]
    np.testing.assert_array_equal(masks[..., 0], rectangle(0, 0, 3, 3))
    np.testing.assert_array_equal(masks[..., 1], rectangle(5, 5, 9, 9))


def test_reference_names_the_image(add_sample, rectangle, tmp_path):
    add_sample("a", [rectangle(0, 0, 3, 3)])
    assert _load(tmp_path).image_reference(0) == "a"


def test_preprocessing_is_applied_to_images(add_sample, rectangle, tmp_path):
    sample = add_sample("a", [rectangle(0, 0, 3, 3)])
    image = _load(tmp_path, preprocessing=Clahe(3.0)).load_image(0)
    np.testing.assert_array_equal(image, Clahe(3.0)(read_image(sample / "images" / "a.png")))


def test_overlapping_masks_the_first_keeps_and_a_warning_counts(add_sample, rectangle, tmp_path, caplog):
    first, second, hidden = rectangle(0, 0, 4, 4), rectangle(2, 2, 6, 6), rectangle(1, 1, 2, 2)
    add_sample("a", [first, second, hidden])
    with caplog.at_level(logging.WARNING):
        labels, class_ids = _load(tmp_path).load_labels(0)
    assert len(class_ids) == 2
    np.testing.assert_array_equal(labels == 1, first)
    np.testing.assert_array_equal(labels == 2, second & ~first)
    assert "a.png: masks overlap in 5 pixels" in caplog.text
    assert "002.png: dropped, all of its pixels" in caplog.text


def test_a_mask_without_a_pixel_is_dropped_and_named(add_sample, rectangle, tmp_path, caplog):
    add_sample("a", [rectangle(0, 0, 0, 0), rectangle(2, 2, 6, 6)])
    with caplog.at_level(logging.WARNING):
        labels, class_ids = _load(tmp_path).load_labels(0)
    assert len(class_ids) == 1 and labels.max() == 1
    assert "000.png: dropped, the mask has no pixel" in caplog.text


def test_a_mask_of_another_shape_names_both_files_and_shapes(add_sample, rectangle, tmp_path):
    add_sample("a", [rectangle(0, 0, 3, 3), rectangle(0, 0, 3, 3, shape=(16, 12))])
    with pytest.raises(DatasetError, match=r"001\.png: .*\(16, 12\).*a\.png has \(12, 16\)"):
        _load(tmp_path).load_labels(0)


def test_an_empty_folder_of_masks_means_that_there_are_no_nuclei(add_sample, tmp_path):
    masks = add_sample("a", []) / "masks"
    dataset = _load(tmp_path)
    assert not dataset.load_labels(0)[0].any() and len(dataset.load_labels(0)[1]) == 0
    (masks / "0.npy").touch()
    with pytest.raises(DatasetError, match=r"a\.png: it has no mask file"):
        _load(tmp_path)


def test_missing_masks_are_allowed_for_detection_only(add_sample, tmp_path):
    add_sample("a", None)
    with pytest.raises(DatasetError, match="no mask file"):
        _load(tmp_path)
    dataset = _load(tmp_path, require_masks=False)
    assert dataset.load_image(0).shape == (12, 16, 3)
    with pytest.raises(DatasetError, match=r"a\.png: the image has no masks"):
        dataset.load_labels(0)


def test_broken_layouts_are_named(add_sample, rectangle, tmp_path):
    with pytest.raises(DatasetError, match="no data set is in it to take the subset 'train' from"):
        _load(tmp_path, "train")
    sample = add_sample("a", [rectangle(0, 0, 3, 3)])
    with pytest.raises(DatasetError, match="no image of the subset 'val'"):
        _load(tmp_path, "val")
    with pytest.raises(DatasetError, match="no subset 'elsewhere'; there are all, train, val, stage1_train"):
        _load(tmp_path, "elsewhere")
    (sample / "images" / "second.png").write_bytes((sample / "images" / "a.png").read_bytes())
    with pytest.raises(DatasetError, match="expected one image file; found 2"):
        _load(tmp_path)
    for path in (sample / "images").iterdir():
        path.unlink()
    with pytest.raises(DatasetError, match="expected one image file; found 0"):
        _load(tmp_path)


def test_truncated_files_are_named(add_sample, rectangle, tmp_path):
    sample = add_sample("a", [rectangle(0, 0, 3, 3)])
    mask = sample / "masks" / "000.png"
    mask.write_bytes(mask.read_bytes()[:-20])
    with pytest.raises(ImageFileError, match=r"000\.png: the PNG is truncated"):
        _load(tmp_path).load_labels(0)
    image = sample / "images" / "a.png"
    image.write_bytes(b"")
    with pytest.raises(ImageFileError, match=r"a\.png: the file is empty"):
        _load(tmp_path).load_image(0)


def test_labels_are_read_from_the_cache_until_a_file_changes(add_sample, rectangle, tmp_path, monkeypatch):
    sample = add_sample("a[1]", [rectangle(0, 0, 3, 3)])
    _load(tmp_path).load_labels(0)
    (stored,) = (tmp_path / ".label_cache" / "stage1_train").iterdir()
    with monkeypatch.context() as patch:
        patch.setattr("nucleus.datasets.layouts.dsb2018.paint_in_order", None)  # a call would fail
        assert _load(tmp_path).load_labels(0)[0].sum() == 9
    added = sample / "masks" / "100.png"
    cv2.imwrite(str(added), rectangle(5, 5, 7, 7).astype(np.uint8))
    assert len(_load(tmp_path).load_labels(0)[1]) == 2
    assert not stored.exists(), "the stale label image is still there"
    cv2.imwrite(str(added), rectangle(5, 5, 8, 8).astype(np.uint8))
    os.utime(added, ns=(1, 1))
    assert _load(tmp_path).load_labels(0)[0].sum() == 9 + 2 * 9
    added.unlink()
    assert len(_load(tmp_path).load_labels(0)[1]) == 1
    (stored,) = (tmp_path / ".label_cache" / "stage1_train").iterdir()
    stored.write_bytes(stored.read_bytes()[:30])
    assert _load(tmp_path).load_labels(0)[0].sum() == 9, "a damaged cache file is made anew"


def test_many_labels_survive_the_cache(tmp_path):
    labels = np.arange(300 * 300, dtype=np.int32).reshape(300, 300)
    source = tmp_path / "source"
    source.touch()
    stored = cache.LabelCache(tmp_path / "cache")
    stored.get("a", [source], lambda: labels)
    read = stored.get("a", [source], lambda: pytest.fail("made twice"))
    np.testing.assert_array_equal(read, labels)
    assert read.dtype == np.int32


def test_a_dataset_that_cannot_be_written_is_cached_for_the_user_or_in_memory(
    add_sample, rectangle, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    add_sample("a", [rectangle(0, 0, 3, 3)])
    # A file where the folder should be refuses every user, the administrator too.
    (tmp_path / ".label_cache").touch()
    assert _load(tmp_path).load_labels(0)[0].sum() == 9
    assert len(list((tmp_path / "user").rglob("a-*.png"))) == 1
    assert ".label_cache" in caplog.text and "cannot be stored here" in caplog.text
    shutil.rmtree(tmp_path / "user")
    (tmp_path / "user").touch()
    dataset = _load(tmp_path)
    dataset.cache_labels(progress=False)
    assert dataset.load_labels(0)[0].sum() == 9
    assert "memory" in caplog.records[-1].message and f"{tmp_path / 'user'}" in caplog.records[-1].message
    monkeypatch.setattr(type(dataset.image_info[0]["truth"]), "read", lambda *_: pytest.fail("made twice"))
    dataset._memory = cache.ArrayCache(0)
    assert dataset.load_labels(0)[0].sum() == 9, "kept in memory"


def test_two_datasets_have_caches_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    (first, users), (other, others) = (cache.label_cache_folders(tmp_path / name) for name in ("a", "b"))
    assert first == tmp_path / "a" / ".label_cache" and other == tmp_path / "b" / ".label_cache"
    assert users != others and users.parent == others.parent and (tmp_path / "user") in users.parents


@pytest.mark.parametrize("damage", ["bit", "grey", "text"])
def test_a_cached_label_image_that_is_damaged_is_made_anew(tmp_path, damage):
    source = tmp_path / "source"
    source.touch()
    stored, labels = cache.LabelCache(tmp_path / "cache"), np.arange(64, dtype=np.int32).reshape(8, 8)
    stored.get("a", [source], lambda: labels)
    (path,) = (tmp_path / "cache").iterdir()
    if damage == "bit":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
    elif damage == "grey":
        cv2.imwrite(str(path), labels.astype(np.uint8))
    else:
        path.write_text("no picture")
    np.testing.assert_array_equal(stored.get("a", [source], lambda: labels), labels)
    np.testing.assert_array_equal(stored.get("a", [source], lambda: pytest.fail("made twice")), labels)


def test_the_label_cache_can_be_filled_ahead(add_sample, rectangle, tmp_path, capsys):
    for name in ("a", "bb", "ccc"):
        add_sample(name, [rectangle(0, 0, 3, 3)])
    add_sample("d", None)
    _load(tmp_path, require_masks=False).cache_labels()
    assert len(list((tmp_path / ".label_cache" / "stage1_train").iterdir())) == 3
    assert "3/3" in capsys.readouterr().err


def test_what_is_loaded_may_be_written_into(add_sample, rectangle, tmp_path):
    add_sample("a", [rectangle(0, 0, 3, 3)])
    dataset = _load(tmp_path)
    image, labels = dataset.load_image(0), dataset.load_labels(0)[0]
    expected = image.copy()
    image[:], labels[:] = 0, 0
    np.testing.assert_array_equal(dataset.load_image(0), expected)
    assert dataset.load_labels(0)[0].sum() == 9


def test_memory_stays_within_its_limit_and_keeps_what_was_used_last():
    kept = cache.ArrayCache(limit=250)
    made = []

    def get(key, size=100):
        def make():
            made.append(key)
            return np.full(size, key, np.uint8)

        return kept.get(key, make)

    for key in (1, 2, 1, 3, 1):
        assert (get(key) == key).all()
    assert made == [1, 2, 3], "1 was used between 2 and 3 and should have stayed"
    get(2)
    assert made == [1, 2, 3, 2]
    get(9, size=251)
    get(9, size=251)
    assert made[-2:] == [9, 9], "an array above the limit cannot be kept"
    get(1)
    assert made[-1] == 9, "and drives nothing out"


def test_threads_share_a_dataset_and_workers_get_a_copy(tmp_path):
    dataset = _load(shipped_data(), "train", cache_dir=tmp_path, memory_limit=2**19)
    small = [i for i in dataset.image_ids if os.path.getsize(dataset.image_info[i]["path"]) < 60_000]
    alone = {i: dataset.load_labels(i)[0].sum() + int(dataset.load_image(i).sum()) for i in small}
    wanted = small * 8
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda i: dataset.load_labels(i)[0].sum() + int(dataset.load_image(i).sum()), wanted))
    assert got == [alone[i] for i in wanted]
    copy = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(copy.load_image(0), dataset.load_image(0))


def test_plain_files_and_folders_become_images_for_detection(tmp_path):
    for name in ("one/a.png", "one/b.png", "two/a.png", "three/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / name), np.full((4, 5), 7, np.uint8))
    (tmp_path / "one" / "notes.txt").touch()
    dataset = NucleusDataset()
    dataset.load_images([tmp_path / "one", tmp_path / "two" / "a.png"])
    dataset.load_images(str(tmp_path / "two"))  # taken already
    dataset.load_images(str(tmp_path / "three"))
    dataset.prepare()
    assert [info["id"] for info in dataset.image_info] == ["a", "b", "a-2", "a-3"]
    assert all((dataset.load_image(i) == 7).all() for i in dataset.image_ids)
    with pytest.raises(DatasetError, match="the image has no masks"):
        dataset.load_labels(0)
    (tmp_path / "empty").mkdir()
    for path, cause in [("nowhere", "no such file"), ("empty", "no image file")]:
        with pytest.raises(DatasetError, match=f"{path}: .*{cause}"):
            NucleusDataset().load_images(tmp_path / path)


def test_what_programs_write_beside_images_is_left_out_and_counted(tmp_path, caplog):
    images = ["a", "b_img", "masks", "actin_label", "seg"]
    written = [f"a_{ending}" for ending in ("masks", "cp_masks", "seg", "flows", "outlines", "cp_output", "dP")]
    written += ["a_cellprob", "a_overlay", "b_masks", "a_mask", "A_CP_MASKS"]
    for name in images + written:
        cv2.imwrite(str(tmp_path / f"{name}.tif"), np.full((4, 5), 7, np.uint8))
    dataset = NucleusDataset()
    dataset.load_images(tmp_path)
    assert sorted(info["id"] for info in dataset.image_info) == sorted(images)
    assert f"left out {len(written)} files that programs write beside images (A_CP_MASKS.tif, ...)" in caplog.text
    dataset.load_images(tmp_path / "a_masks.tif")
    assert dataset.image_info[-1]["id"] == "a_masks"
    for name in (*images, "a_mask"):
        (tmp_path / f"{name}.tif").unlink()
    with pytest.raises(DatasetError, match=r"no image file .* left out 11 files"):
        NucleusDataset().load_images(tmp_path)


def test_modalities_by_colours(tmp_path):
    path = tmp_path / "classes.csv"
    assert read_modalities(path) == {}
    path.write_text("background,ImageId,foreground\nblack,a,white\nyellow,b,green\n", encoding="utf-8-sig")
    assert read_modalities(path) == {"a": "fluorescence", "b": "green-on-yellow"}
    path.write_text("ImageId,colour\na,white\n")
    with pytest.raises(DatasetError, match=r"classes\.csv: expected the columns"):
        read_modalities(path)


@pytest.mark.parametrize(
    ("rows", "cause"),
    [
        ("ImageId,modality\na,light\na,stain\n", r"line 3: a has 'stain' here and 'light' in an earlier line"),
        ("ImageId,modality\n,light\n", "line 2: ImageId is empty"),
        ("ImageId,modality,modality\na,light,stain\n", "the column modality occurs twice"),
        ("ImageId,modality\na,\xff\n", "is no CSV file in UTF-8"),
        ("ImageId,modality\na,light,more\n", "line 2: expected 2 fields; found 3"),
    ],
)
def test_classes_that_contradict_themselves_are_refused(tmp_path, rows, cause):
    path = tmp_path / "classes.csv"
    path.write_text(rows, encoding="latin-1")
    with pytest.raises(DatasetError, match=rf"classes\.csv.*{cause}"):
        read_modalities(path)
    path.write_text("ImageId,modality\na,light\na,light\n")
    assert read_modalities(path) == {"a": "light"}, "a row that is there twice says nothing else"


def test_images_that_a_file_of_classes_leaves_out_are_counted(add_sample, rectangle, tmp_path, caplog):
    for name in "abc":
        add_sample(name, [rectangle(1, 1, 4, 4)])
    path = tmp_path / "mine.csv"
    path.write_text("ImageId,modality\na,light\nelsewhere,light\n")
    dataset = NucleusDataset()
    dataset.load_nucleus(tmp_path, "stage1_train", classes=path)
    assert [info["modality"] for info in dataset.image_info] == ["light", "unknown", "unknown"]
    assert "mine.csv: does not name 2 of 3 images, such as b" in caplog.text


def test_a_modality_that_tables_would_take_for_all_images_is_refused(add_sample, rectangle, tmp_path):
    add_sample("a", [rectangle(1, 1, 4, 4)])
    (tmp_path / "classes.csv").write_text("ImageId,modality\na,all\n")
    with pytest.raises(DatasetError, match="the modality of a is called 'all'"):
        _load(tmp_path)


@pytest.mark.parametrize("table", ["ImageId,modality\na,\n", "ImageId,foreground,background\na,,\n"])
def test_an_empty_modality_is_not_known(add_sample, rectangle, tmp_path, table):
    add_sample("a", [rectangle(1, 1, 4, 4)])
    (tmp_path / "classes.csv").write_text(table)
    assert _load(tmp_path).image_info[0]["modality"] == "unknown"
