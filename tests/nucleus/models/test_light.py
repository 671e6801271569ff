"""The shipped light U-Net on the shipped validation images, which it was not trained on."""

import numpy as np
import pytest

from nucleus import load_model
from nucleus.datasets.dataset import NucleusDataset, shipped_data
from nucleus.metrics import average_precision

# Mean of these six images among the 126 of the model card, as `nucleus evaluate` scored them there.
EXPECTED = 0.474


def test_it_scores_as_it_did_when_it_was_shipped():
    dataset = NucleusDataset()
    dataset.load_nucleus(shipped_data(), "val")
    dataset.prepare()
    model = load_model("nucleus_light")
    assert model.config.PRECISION == "float32", "the same nuclei on every processor"
    scores = []
    for index in dataset.image_ids:
        labels, probabilities = model.predict(dataset.load_image(index))[0]
        assert len(probabilities) == labels.max() and (probabilities > 0.5).all()
        scores.append(average_precision(dataset.load_labels(index)[0], labels))
    assert np.mean(scores) == pytest.approx(EXPECTED, abs=0.02)
