"""Several trained networks as one: U-Nets average, Mask R-CNNs vote."""

import numpy as np
import pytest

from nucleus.experiments.publications import find_experiment
from nucleus.experiments.publications.joint import JointMaskRCNNs, JointUNets, joint
from nucleus.models.config import make_config
from nucleus.models.inference import MaskRCNNPredictor

IMAGE = np.zeros((12, 12, 3), np.uint8)


class FakeProbabilities:
    """Says the same of every pixel."""

    def __init__(self, value, config):
        self.value, self.config = value, config

    def predict_probabilities(self, image):
        return np.full((*image.shape[:2], 1), self.value, np.float32)


class FakeMaskRCNN(MaskRCNNPredictor):
    """Finds the same boxes, filled, in every one of its views."""

    def __init__(self, views, boxes, scores, **settings):
        self.config = make_config("inference", settings=settings)
        self._found = [
            (np.array(boxes), [np.ones((b[2] - b[0], b[3] - b[1])) for b in boxes], np.array(scores))
        ] * views

    def find_in_views(self, image):
        yield from self._found


def test_u_nets_of_several_folds_average_their_probabilities():
    config = find_experiment("mlp-unet-128").inference_config()
    predictor = joint([FakeProbabilities(0.2, config), FakeProbabilities(0.9, config)])
    assert isinstance(predictor, JointUNets)
    np.testing.assert_allclose(predictor.predict_probabilities(IMAGE), 0.55)
    labels, scores = predictor.predict_labels(IMAGE)
    assert labels.min() == 1 and scores.shape == (1,)


def test_mask_rcnns_of_several_folds_vote():
    common, missed, alone = [0, 0, 5, 5], [6, 6, 11, 11], [0, 7, 4, 11]
    models = [
        FakeMaskRCNN(1, [common, missed], [0.9, 0.8]),
        FakeMaskRCNN(1, [common, missed], [0.7, 0.8]),
        FakeMaskRCNN(1, [common, alone], [0.8, 0.9]),
    ]
    predictor = joint(models)
    assert isinstance(predictor, JointMaskRCNNs)
    labels, scores = predictor.predict_labels(IMAGE)
    expected = np.zeros((12, 12), np.int32)
    expected[:5, :5], expected[6:11, 6:11] = 1, 2
    np.testing.assert_array_equal(labels, expected)
    # The second nucleus counts for what two of three say of it; the one that a single model shows is gone.
    np.testing.assert_allclose(scores, [0.8, 1.6 / 3], rtol=1e-6)


def test_views_of_every_mask_rcnn_have_a_vote_and_its_settings_hold():
    models = [FakeMaskRCNN(3, [[0, 0, 5, 5]], [0.9], MIN_AREA=26), FakeMaskRCNN(1, [[0, 6, 6, 12]], [0.9], MIN_AREA=26)]
    assert joint(models).predict_labels(IMAGE)[0].max() == 0, "too small, and too rare: one view of four"
    models[0].config.MIN_AREA = 25
    assert (joint(models).predict_labels(IMAGE)[0] > 0).sum() == 25


@pytest.mark.parametrize("alone", [FakeProbabilities(0.2, None), FakeMaskRCNN(1, [[0, 0, 5, 5]], [0.9])])
def test_one_network_is_itself(alone):
    assert joint([alone]) is alone
