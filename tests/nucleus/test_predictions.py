"""Label images that were written before: their names, and the scores that belong to them."""

import logging

import numpy as np
import pandas as pd
import pytest

from nucleus.dataset import DatasetError, NucleusDataset
from nucleus.evaluation import evaluate_fully
from nucleus.export import write_labels
from nucleus.metrics import coco_scores, overlaps, score_average_precision
from nucleus.predictions import KeptPredictions, PredictionFolder


@pytest.fixture
def dataset(tmp_path, add_sample, rectangle):
    """Image "a" with two nuclei, and "NA" with one."""
    add_sample("a", [rectangle(1, 1, 5, 5), rectangle(7, 7, 10, 12)])
    add_sample("NA", [rectangle(2, 2, 6, 9)])
    dataset = NucleusDataset(cache_dir=tmp_path / "cache")
    dataset.load_nucleus(tmp_path, "train")
    dataset.prepare()
    return dataset


@pytest.fixture
def folder(tmp_path):
    """What `detect` leaves: label images with gaps between the labels, and a table of scores in another order."""
    labels = np.zeros((12, 16), int)
    labels[1:5, 1:5], labels[7:10, 6:12] = 7, 2
    other = np.zeros((12, 16), int)
    other[2:6, 2:8] = 1
    write_labels(tmp_path / "mine" / "labels" / "a.png", labels)
    write_labels(tmp_path / "mine" / "labels" / "NA.tif", other)
    rows = [("a", 7, 0.25, 16), ("NA", 1, 0.5, 24), ("a", 2, 0.75, 18)]
    table = pd.DataFrame(rows, columns=["ImageId", "label", "score", "area"])
    table.to_csv(tmp_path / "mine" / "nuclei.csv", index=False)
    return tmp_path / "mine" / "labels"


def test_folders_are_called_by_their_names(tmp_path, folder, monkeypatch):
    assert PredictionFolder(folder).name == PredictionFolder(folder.parent).name == "mine"
    assert PredictionFolder(tmp_path / "theirs").name == "theirs"
    assert PredictionFolder(folder, "yours").name == "yours"
    monkeypatch.chdir(folder)
    assert PredictionFolder(".").name == "mine"


def test_scores_are_those_of_detect(dataset, folder):
    predictions = PredictionFolder(folder.parent)
    read = {dataset.image_info[index]["id"]: predictions.read(dataset, index) for index in dataset.image_ids}
    np.testing.assert_array_equal(read["a"][1], [0.75, 0.25])
    np.testing.assert_array_equal(read["NA"][1], [0.5])

    evaluation = evaluate_fully(predictions, dataset, progress=False)
    truths = {dataset.image_info[index]["id"]: dataset.load_labels(index)[0] for index in dataset.image_ids}
    expected = coco_scores((overlaps(truths[name], labels), scores) for name, (labels, scores) in read.items())
    assert evaluation.summary.loc["all", "COCO_AP"] == expected.ap
    assert evaluation.summary.loc["all", "COCO_AR"] == expected.ar
    ranked = [
        score_average_precision(overlaps(truths[name], labels), scores) for name, (labels, scores) in read.items()
    ]
    assert evaluation.summary.loc["all", "VOC_AP50"] == pytest.approx(np.mean(ranked))
    assert 0 < expected.ap < 1


def test_scores_of_other_label_images_are_not_used(dataset, folder, caplog):
    write_labels(folder / "NA.tif", np.full((12, 16), 3))
    with caplog.at_level(logging.WARNING):
        evaluation = evaluate_fully(PredictionFolder(folder), dataset, progress=False)
    assert "COCO_AP" not in evaluation.summary
    assert len(caplog.records) == 1 and "those of NA in " in caplog.text


def test_tables_that_are_none_are_named(folder):
    for content in ("ImageId,label\na,1\n", "ImageId,label,score\na,1,high\n", "ImageId,label,score\na,1,\n"):
        (folder.parent / "nuclei.csv").write_text(content)
        with pytest.raises(DatasetError, match=r"nuclei\.csv"):
            PredictionFolder(folder)


def test_a_table_beside_another_folder_is_not_looked_at(folder, tmp_path, dataset):
    moved = folder.rename(folder.parent / "pictures")
    _, scores = PredictionFolder(moved).read(dataset, 0)
    assert scores is None


def test_what_is_kept_is_what_was_read(dataset, folder):
    predictions = PredictionFolder(folder)
    kept = KeptPredictions(predictions)
    for index in (*dataset.image_ids, *dataset.image_ids):
        labels, scores = kept.read(dataset, index)
        expected, confidences = predictions.read(dataset, index)
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_array_equal(scores, confidences)
    assert (kept.name, kept.source) == ("mine", str(folder))
