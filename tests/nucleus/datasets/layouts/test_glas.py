"""The files of the GlaS challenge: parts, grades, label images, and errors that name the file."""

import numpy as np
import pytest

from nucleus.datasets.dataset import DatasetError

from .files import LABELS, ids, load, write_image, write_labels


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
