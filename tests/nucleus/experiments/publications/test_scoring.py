"""Scores of an experiment by modality and of probabilities, and the limits that are reached meanwhile."""

from dataclasses import replace

import numpy as np
import pytest

from nucleus.datasets.dataset import shipped_data
from nucleus.evaluation.scores import overlaps, score
from nucleus.experiments.publications import find_experiment, runner
from nucleus.experiments.publications.images import Images
from nucleus.experiments.publications.scoring import CrossEntropy, sum_scores
from nucleus.models.limits import Limit, report_limit
from nucleus.prediction.predictions import ModelPredictions


def test_scores_by_modality_are_those_of_its_images(threshold_model):
    source = replace(find_experiment("mlp-unet-128").source, limit=3)
    dataset = Images(source, shipped_data()).load("val")
    assert len({info["modality"] for info in dataset.image_info}) == 3
    chosen = [index for index in dataset.image_ids if dataset.image_info[index]["modality"] == "fluorescence"]
    found = sum_scores(ModelPredictions(threshold_model), dataset, runner.modality_parts)
    pairs = [
        overlaps(dataset.load_labels(i)[0], threshold_model.predict(dataset.load_image(i))[0].labels) for i in chosen
    ]
    assert found["fluorescence"][0].values() == sum(map(score, pairs)).values()
    assert found["histology"][0].values()["images"] == 2 and found[""][0].values()["images"] == 3


def find_nothing(image):
    return np.zeros(image.shape[:2], np.int32), np.zeros(0, np.float32)


def test_cross_entropy_is_the_mean_over_images(fake_model):
    class FakeProbabilities(fake_model):
        """Gives every pixel one probability."""

        def observe(self, images):
            return [[np.full((*image.shape[:2], 1), 0.25, np.float32)] for image in images]

    dataset = Images(find_experiment("mlp-unet-128").source, shipped_data()).load("val")
    unet = FakeProbabilities(find_nothing)
    found = sum_scores(ModelPredictions(unet), dataset, lambda _: [""], unet)[""][1]
    shares = [np.mean(dataset.load_labels(index)[0] > 0) for index in dataset.image_ids]
    expected = np.mean([-share * np.log(0.25) - (1 - share) * np.log(0.75) for share in shares])
    assert isinstance(found, CrossEntropy) and found.mean == pytest.approx(expected)


def test_a_limit_that_is_reached_while_scoring_is_warned_of_with_the_images_name(fake_model, caplog):
    """The score counts as missed what the model had no room for: the reader must learn of it, and of which image."""

    def find(image):
        report_limit(Limit("DETECTION_MAX_INSTANCES", 7, image.shape[:2]))
        return find_nothing(image)

    dataset = Images(replace(find_experiment("mlp-unet-128").source, limit=1), shipped_data()).load("val")
    sum_scores(ModelPredictions(fake_model(find)), dataset, lambda _: [""])
    (message,) = caplog.messages
    assert message.startswith(f"{dataset.image_info[0]['path']}: DETECTION_MAX_INSTANCES=7")
