"""Predictions read from folders: what detect writes, label images of others, and several folders of one model."""

import numpy as np
import pytest

from nucleus.datasets.dataset import DatasetError
from nucleus.ensemble.predictions import PredictionFolders
from nucleus.images.writing import write_labels
from nucleus.prediction.detection import collect_images, detect


@pytest.fixture
def detected(tmp_path, write_squares, threshold_predictor):
    """What detect wrote of an image "one" with two squares and "none" with none."""
    write_squares("images/one.png", (2, 2), (10, 20))
    write_squares("images/none.png")
    dataset, _ = collect_images([tmp_path / "images"])
    detect(threshold_predictor, dataset, tmp_path / "run", progress=False)
    return tmp_path / "run"


@pytest.mark.parametrize("named", [".", "labels"])
def test_it_reads_what_detect_wrote(named, detected):
    folders = PredictionFolders([detected / named])
    labels, scores = folders.find("one")
    assert labels.dtype == np.int32 and np.bincount(labels.ravel()).tolist()[1:] == [16, 16]
    np.testing.assert_allclose(scores, [0.9, 0.5])
    labels, scores = folders.find("none")
    assert not labels.any() and scores.shape == (0,)


def test_label_images_of_others_count_as_certain_and_may_have_gaps(tmp_path):
    labels = np.zeros((6, 8), np.int32)
    labels[1, 1], labels[4, 4] = 7, 3
    write_labels(tmp_path / "others" / "a.tif", labels)
    found, scores = PredictionFolders([tmp_path / "others"]).find("a")
    assert found[4, 4] == 1 and found[1, 1] == 2 and scores.tolist() == [1, 1]


def test_each_image_is_in_one_of_the_folders_of_a_model(detected, tmp_path):
    write_labels(tmp_path / "second" / "b.png", np.ones((4, 4), np.int32))
    folders = PredictionFolders([detected, tmp_path / "second"])
    assert folders.find("b")[0].all() and folders.find("one")[0].max() == 2
    with pytest.raises(DatasetError, match=r"run.labels, .*second: no label image c\.png"):
        folders.find("c")
    write_labels(tmp_path / "second" / "one.png", np.ones((4, 4), np.int32))
    folders = PredictionFolders([detected, tmp_path / "second"])
    with pytest.raises(DatasetError, match=r"run.labels.one\.png: the same image is predicted by .*second.one\.png"):
        folders.find("one")


def test_what_is_missing_or_does_not_fit_is_named(detected, tmp_path):
    with pytest.raises(DatasetError, match="absent: there is no such folder"):
        PredictionFolders([tmp_path / "absent"])
    table = detected / "nuclei.csv"
    text = table.read_text()
    lines = text.splitlines()
    for changed, message in (
        (lines[:-1], r"one\.png: has 2 nuclei, which are not the 1 of .*nuclei\.csv"),
        ([*lines, lines[-1]], r"nuclei\.csv, line 4: label 2 of one occurs twice"),
        ([line.replace("0.9", "1.9") for line in lines], r"nuclei\.csv, line 2: a score lies in 0\.\.1; found 1\.9"),
        ([line.replace("0.9000", "nan") for line in lines], r"nuclei\.csv, line 2: a score lies in 0\.\.1; found nan"),
        ([line.replace("one,1", "one,x") for line in lines], r"nuclei\.csv, line 2: expected a whole number"),
        ([line.replace("score", "confidence") for line in lines], r"nuclei\.csv: expected the columns"),
    ):
        table.write_text("\n".join(changed) + "\n")
        assert table.read_text() != text
        with pytest.raises(DatasetError, match=message):
            PredictionFolders([detected]).find("one")
    table.unlink()
    with pytest.raises(DatasetError, match=r"nuclei\.csv: cannot be read"):
        PredictionFolders([detected])
