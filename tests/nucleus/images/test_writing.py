"""Label images keep every label, and what does not fit leaves the old file as it was."""

import errno
import os
import sys

import cv2
import numpy as np
import pytest
import tifffile

from nucleus.images.reading import read_labels
from nucleus.images.writing import write_label_bands, write_labels


@pytest.fixture
def labels():
    labels = np.zeros((20, 30), np.int32)
    labels[2:6, 3:9], labels[15:19, 20:24] = 1, 3
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


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_no_utf8_does_not_end_the_program(tmp_path, labels):
    path = tmp_path / os.fsdecode(b"\xff\xfe.png")
    write_labels(path, labels)
    np.testing.assert_array_equal(read_labels(path), labels)


def test_a_full_disk_is_reported_for_the_zarr_that_was_meant_and_leaves_no_part_of_it(tmp_path, labels):
    pytest.importorskip("zarr")

    def bands():
        yield labels[:10]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: .*[\\/]a\.zarr'"):
        write_label_bands(tmp_path / "a.zarr", bands(), labels.shape, None, 10)
    assert not any(tmp_path.iterdir())


def test_labels_that_do_not_fit_are_refused_and_the_old_file_stays(tmp_path, labels):
    path = tmp_path / "a.png"
    write_labels(path, labels)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"a\.png: label 210000"):
        write_labels(path, labels * 70_000)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match=r"\.tiff"):
        write_labels(tmp_path / "a.jpg", labels)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
