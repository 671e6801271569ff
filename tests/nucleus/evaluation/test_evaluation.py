"""Evaluation: one row an image, scores overall and by modality, files, and predictions that cannot be scored."""

import json

import cv2
import numpy as np
import pandas as pd
import pytest

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.evaluation import evaluate, evaluate_fully
from nucleus.images.reading import ImageFileError
from nucleus.images.writing import write_labels
from nucleus.prediction.folders import PredictionFolder
from nucleus.prediction.predictions import ModelPredictions


@pytest.fixture
def dataset(tmp_path, add_sample, rectangle):
    """Image "a" shows its one nucleus exactly; "b" shows one of two."""
    for name, shown, masks in (
        ("a", rectangle(1, 1, 5, 5), [rectangle(1, 1, 5, 5)]),
        ("b", rectangle(1, 1, 5, 5), [rectangle(1, 1, 5, 5), rectangle(7, 7, 10, 12)]),
    ):
        sample = add_sample(name, masks)
        image = np.repeat(shown[..., None], 3, axis=2).astype(np.uint8) * 255
        cv2.imwrite(str(sample / "images" / f"{name}.png"), image)
    (tmp_path / "classes.csv").write_text("ImageId,foreground,background\na,white,black\nb,purple,white\n")
    dataset = NucleusDataset(cache_dir=tmp_path / "cache")
    dataset.load_nucleus(tmp_path, "train")
    dataset.prepare()
    return dataset


def test_scores_are_those_of_the_images(dataset, threshold_model, tmp_path):
    evaluation = evaluate_fully(ModelPredictions(threshold_model), dataset, progress=False)
    scores = evaluation.images
    assert list(scores["ImageId"]) == ["a", "b"]
    np.testing.assert_allclose(scores["mAP"], [1, 0.5])
    np.testing.assert_allclose(scores["AP75"], [1, 0.5])
    np.testing.assert_allclose(scores["IoU"], [1, 16 / (16 + 15)])
    assert scores[["true", "predicted", "matched", "missed", "spurious"]].to_numpy().tolist() == [
        [1, 1, 1, 0, 0],
        [2, 1, 1, 1, 0],
    ]

    summary = evaluation.summary
    assert list(summary.index) == ["all", "fluorescence", "h&e-white"]
    assert summary.loc["all", "mAP"] == pytest.approx(0.75)
    assert summary.loc["all", "IoU"] == pytest.approx((1 + 16 / 31) / 2)
    assert summary.loc["h&e-white", "AP50"] == pytest.approx(0.5)
    assert summary["images"].tolist() == [2, 1, 1] and summary["true"].tolist() == [3, 1, 2]

    evaluation.save(tmp_path / "scores")
    assert json.loads((tmp_path / "scores" / "summary.json").read_text())["all"]["mAP"] == pytest.approx(0.75)
    back = pd.read_csv(tmp_path / "scores" / "scores.csv")
    np.testing.assert_allclose(back["mAP"], scores["mAP"])


def test_what_a_training_watches_is_a_part_of_all_scores(dataset, threshold_model):
    watched = evaluate(threshold_model, dataset, progress=False)
    full = evaluate_fully(ModelPredictions(threshold_model), dataset, progress=False)
    pd.testing.assert_frame_equal(watched, full.images[list(watched)])
    assert {"mAP", "AP50", "AP75"} < set(watched) < set(full.images)
    assert watched["mAP"].mean() == pytest.approx(full.summary.loc["all", "mAP"])


def test_images_must_not_be_preprocessed_twice(threshold_model):
    with pytest.raises(DatasetError, match="without preprocessing"):
        evaluate(threshold_model, NucleusDataset(preprocessing=np.asarray))


def test_no_image_is_no_score(threshold_model):
    dataset = NucleusDataset()
    dataset.prepare()
    with pytest.raises(DatasetError, match="no image"):
        evaluate(threshold_model, dataset)


def test_written_predictions_score_like_the_model_that_made_them(dataset, threshold_model, tmp_path):
    folder = tmp_path / "labels"
    for index, suffix in zip(dataset.image_ids, (".png", ".tif"), strict=True):
        ((labels, _),) = threshold_model.predict(dataset.load_image(index))
        write_labels(folder / f"{dataset.image_info[index]['id']}{suffix}", labels)
    expected = evaluate_fully(ModelPredictions(threshold_model), dataset, progress=False).images
    pd.testing.assert_frame_equal(evaluate_fully(PredictionFolder(folder), dataset, progress=False).images, expected)


def test_predictions_that_cannot_be_scored_are_named(dataset, tmp_path):
    folder = tmp_path / "labels"

    def score():
        evaluate_fully(PredictionFolder(folder), dataset, progress=False)

    folder.mkdir()
    write_labels(folder / "a.png", np.zeros((3, 3), int))
    with pytest.raises(DatasetError, match=r"labels: no label image b\.png"):
        score()
    write_labels(folder / "b.png", np.zeros((12, 16), int))
    with pytest.raises(DatasetError, match=r"a\.png: the label image has shape \(3, 3\)"):
        score()
    cv2.imwrite(str(folder / "a.png"), (np.arange(576) % 256).reshape(12, 16, 3).astype(np.uint8))
    with pytest.raises(ImageFileError, match=r"a\.png: no label image"):
        score()
