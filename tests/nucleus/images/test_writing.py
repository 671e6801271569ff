"""Label images keep every label, and what does not fit leaves the old file as it was."""

import cv2
import numpy as np
import pytest
import tifffile

from nucleus.images.writing import write_labels


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
