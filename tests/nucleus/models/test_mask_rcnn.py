"""Mask R-CNN as a nucleus model: overlap rule, holes and least area of what the network finds."""

from types import SimpleNamespace

import numpy as np
import pytest

from nucleus.models.mask_rcnn import MaskRCNNModel
from nucleus.models.registry import make_config


class FakeMaskRCNN(MaskRCNNModel):
    """Has a network that answers every image with the instances it was given."""

    def __init__(self, boxes, scores, mask=None, **settings):
        super().__init__(None, make_config("inference", settings=settings))
        found = SimpleNamespace(
            boxes=np.array(boxes, np.int32).reshape(-1, 4),
            scores=np.array(scores, np.float32),
            limit_reached=False,
            crop=lambda index: np.ones(np.subtract(boxes[index][2:], boxes[index][:2]), bool) if mask is None else mask,
        )
        self.network = SimpleNamespace(mode="inference", detect_instances=lambda images, _: [found] * len(images))


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


BOXES = [(0, 0, 10, 10), (0, 6, 20, 26), (30, 30, 32, 31)]
SCORES = [0.9, 0.8, 0.7]


@pytest.mark.parametrize(
    ("rule", "areas"), [("score", [100, 360, 2]), ("largest", [60, 400, 2]), ("nearest-centroid", [100, 360, 2])]
)
def test_the_overlap_rule_is_the_configurations(image, rule, areas):
    ((labels, scores),) = FakeMaskRCNN(BOXES, SCORES, OVERLAP_RULE=rule).predict(image)
    assert labels.dtype == np.int32 and scores.dtype == np.float32
    np.testing.assert_array_equal(np.bincount(labels.ravel())[1:], areas)
    np.testing.assert_allclose(scores, SCORES)


def test_small_instances_go_with_their_scores(image):
    boxes = [BOXES[2], BOXES[0]]
    ((labels, scores),) = FakeMaskRCNN(boxes, [0.9, 0.6], MIN_AREA=3).predict(image)
    assert labels.max() == 1
    np.testing.assert_array_equal(np.argwhere(labels == 1).max(axis=0), [9, 9])
    np.testing.assert_allclose(scores, [0.6])


def test_holes_of_a_nucleus_are_filled_where_asked_for(image):
    ring = np.ones((10, 10), bool)
    ring[3:6, 4:7] = ring[0, 5] = False
    for fill, least, pixels in ((False, 0, 90), (True, 0, 99), (True, 99, 99), (True, 100, 0), (False, 99, 0)):
        ((labels, _),) = FakeMaskRCNN([BOXES[0]], [0.9], ring, FILL_HOLES=fill, MIN_AREA=least).predict(image)
        assert np.count_nonzero(labels == 1) == np.count_nonzero(labels) == pixels, "what is open stays open"


def test_an_image_without_nuclei(image):
    ((labels, scores),) = FakeMaskRCNN([], [], MIN_AREA=5).predict(image)
    assert labels.shape == (40, 50) and not labels.any() and scores.shape == (0,)
