"""Label images that were written before: their names, and the scores that belong to them."""

import numpy as np
import pandas as pd
import pytest

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.datasets.label_index import LabelIndex
from nucleus.evaluation.evaluation import evaluate_fully
from nucleus.evaluation.scores import coco_scores, overlaps, score_average_precision
from nucleus.images.writing import write_labels
from nucleus.prediction.detection import detect
from nucleus.prediction.folders import PredictionFolder
from nucleus.prediction.inputs import collect_images
from nucleus.prediction.predictions import KeptPredictions


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
    """A folder of `detect`: label images with gaps between labels, and a table of scores in another order."""
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
    (tmp_path / "theirs").mkdir()
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


@pytest.mark.parametrize("named", [".", "labels"])
def test_what_detect_wrote_is_read(tmp_path, write_squares, threshold_model, named):
    images = write_squares("images/one.png", (2, 2), (10, 20)), write_squares("images/none.png")
    detect(threshold_model, collect_images(images)[0], tmp_path / "run", progress=False)
    predictions, image = PredictionFolder(tmp_path / "run" / named), np.zeros((24, 32, 3), np.uint8)
    labels, scores = predictions.find("one", image)
    assert labels.dtype == np.int32 and np.bincount(labels.ravel()).tolist()[1:] == [16, 16]
    np.testing.assert_allclose(scores, [0.9, 0.5])
    labels, scores = predictions.find("none", image)
    assert not labels.any() and scores.shape == (0,)


def test_scores_of_other_nuclei_are_refused(dataset, folder):
    write_labels(folder / "NA.tif", np.full((12, 16), 3))
    predictions = PredictionFolder(folder)
    message = r"NA\.tif: has 1 nuclei, which are not the 1 of .*nuclei\.csv\. Remove the table"
    with pytest.raises(DatasetError, match=message):
        evaluate_fully(predictions, dataset, progress=False)
    with pytest.raises(DatasetError, match=message):
        predictions.find("NA", np.zeros((12, 16, 3), np.uint8))


def test_nuclei_without_a_table_have_no_scores_and_are_certain_to_an_ensemble(dataset, folder, caplog):
    predictions = PredictionFolder(folder.rename(folder.parent / "pictures"))
    assert "COCO_AP" not in evaluate_fully(predictions, dataset, progress=False).summary
    assert not caplog.records
    for name in ("a", "NA"):
        labels, scores = predictions.find(name, np.zeros((12, 16, 3), np.uint8))
        assert set(np.unique(labels)) == {0, *range(1, len(scores) + 1)} and (scores == 1).all()
    assert len(caplog.records) == 1 and "pictures: no scores" in caplog.text and "counts as scored 1" in caplog.text


def test_each_image_is_in_one_of_the_folders_of_a_model(folder, tmp_path):
    image = np.zeros((12, 16, 3), np.uint8)
    second = tmp_path / "second" / "labels"
    write_labels(second / "b.png", np.ones((12, 16), int))
    with pytest.raises(DatasetError, match=r"second.labels: has no nuclei\.csv .* Either all"):
        PredictionFolder([folder, second])
    (second.parent / "nuclei.csv").write_text("ImageId,label,score\nb,1,0.1\n")
    predictions = PredictionFolder([folder, second])
    assert predictions.find("b", image)[1].tolist() == pytest.approx([0.1])
    assert predictions.find("a", image)[1].tolist() == [0.75, 0.25]
    with pytest.raises(DatasetError, match=r"mine.labels, .*second.labels: no label image c\.png"):
        predictions.find("c", image)
    write_labels(second / "a.png", np.ones((12, 16), int))
    with pytest.raises(DatasetError, match=r"mine.labels.a\.png, .*second.labels.a\.png could all be"):
        PredictionFolder([folder, second]).find("a", image)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("a,7,", "a,2,", r"nuclei\.csv, line 4: label 2 of a occurs twice"),
        ("0.25", "1.25", r"nuclei\.csv, line 2: a score lies in 0\.\.1; found 1\.25"),
        ("0.25", "nan", r"nuclei\.csv, line 2: a score lies in 0\.\.1; found nan"),
        ("0.25", "high", r"nuclei\.csv, line 2: expected a whole number and a score"),
        ("0.25", "", r"nuclei\.csv, line 2: expected a whole number and a score"),
        ("a,7,", "a,x,", r"nuclei\.csv, line 2: expected a whole number"),
        ("score", "confidence", r"nuclei\.csv: expected the columns"),
        ("a,7,", "a,-7,", r"nuclei\.csv, line 2: a label is a whole number from 1 on; found -7"),
        ("a,7,", f"a,{2**31},", r"nuclei\.csv, line 2: a label is a whole number from 1 on"),
    ],
)
def test_malformed_tables_are_named(folder, old, new, message):
    table = folder.parent / "nuclei.csv"
    table.write_text(table.read_text().replace(old, new))
    with pytest.raises(DatasetError, match=message):
        PredictionFolder(folder)


def test_missing_folders_and_label_images_of_another_size_are_named(dataset, folder):
    with pytest.raises(DatasetError, match="absent: there is no such folder"):
        PredictionFolder(folder / "absent")
    (folder / "NA.tif").unlink()
    predictions = PredictionFolder(folder)
    with pytest.raises(DatasetError, match=r"labels: no label image NA\.png"):
        predictions.require(dataset)
    with pytest.raises(DatasetError, match=r"a\.png: the label image has shape \(12, 16\), its image a has \(3, 3\)"):
        predictions.find("a", np.zeros((3, 3, 3), np.uint8))


def test_what_is_kept_is_what_was_read(dataset, folder):
    predictions = PredictionFolder(folder)
    kept = KeptPredictions(predictions)
    for index in (*dataset.image_ids, *dataset.image_ids):
        labels, scores = kept.read(dataset, index)
        expected, confidences = predictions.read(dataset, index)
        np.testing.assert_array_equal(labels, expected)
        np.testing.assert_array_equal(scores, confidences)
    assert (kept.name, kept.source) == ("mine", str(folder))


@pytest.mark.parametrize("name", ["a.PNG", "a.TIFF", "a_cp_masks.png", "A.png", "a_masks.TIF", "a_label.png"])
def test_label_images_are_found_as_other_programs_name_them(dataset, tmp_path, name):
    folder = tmp_path / "theirs"
    for target in (name, "NA_cp_masks.png"):
        path = write_labels(folder / "new.tif" if "TIF" in target else folder / "new.png", np.eye(12, 16, dtype=int))
        (path or folder / ("new.tif" if "TIF" in target else "new.png")).rename(folder / target)
    (folder / "a_flows.tif").touch()
    predictions = PredictionFolder(folder)
    predictions.require(dataset)
    for index in dataset.image_ids:
        np.testing.assert_array_equal(predictions.read(dataset, index)[0], np.eye(12, 16))


def test_names_that_could_mean_one_image_or_another_are_not_guessed(tmp_path):
    for name in ("a.png", "a_cp_masks.png", "b_mask.png", "b.tif", "C.png", "c.png", ".d.png", "E.png"):
        (tmp_path / name).touch()
    index = LabelIndex(tmp_path)
    with pytest.raises(DatasetError, match=r"a\.png, a_cp_masks\.png could all be the label image of a; keep one"):
        index.find("a")
    assert index.find("b", ["b", "b_mask"]).name == "b.tif" and index.find("b_mask", ["b", "b_mask"]).suffix == ".png"
    assert index.find("c").name == "c.png" and index.find("C").name == "C.png"
    for name in "de":
        with pytest.raises(DatasetError, match=f"no label image {name}.png"):
            index.find(name, ["d", "e", "E"])
    assert index.find("e").name == "E.png"


def test_a_binary_mask_is_not_silently_one_nucleus(dataset, tmp_path, caplog):
    labels = np.zeros((12, 16), int)
    labels[1:4, 1:4] = labels[6:9, 6:9] = 255
    for name in ("a", "NA"):
        write_labels(tmp_path / "theirs" / f"{name}.png", labels)
    predictions = PredictionFolder(tmp_path / "theirs")
    for index in dataset.image_ids:
        predictions.read(dataset, index)
    assert len(caplog.records) == 1 and ".png: its 2 separate regions have one value" in caplog.text
