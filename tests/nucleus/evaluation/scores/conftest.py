"""Random pairs of label images, and scores computed from one boolean mask a nucleus."""

from types import SimpleNamespace

import numpy as np
import pytest


def boolean_masks(labels):
    return [labels == label for label in np.unique(labels) if label]


@pytest.fixture(params=range(5), ids="seed{}".format)
def images(request, blobs):
    """A ground truth, and a prediction that is moved, misses some, unites some and makes some up."""
    rng = np.random.default_rng(request.param)
    truth = blobs(rng)
    predicted = np.roll(truth, rng.integers(-1, 2, size=2), axis=(0, 1))
    predicted[blobs(rng, count=2) > 0] = 999
    predicted[predicted == np.unique(predicted)[3]] = 0
    labels = np.unique(predicted)
    predicted[predicted == labels[-2]] = labels[-3]
    truth_masks, predicted_masks = boolean_masks(truth), boolean_masks(predicted)
    iou = np.array([[(a & b).sum() / (a | b).sum() for b in predicted_masks] for a in truth_masks])
    return SimpleNamespace(
        truth=truth, predicted=predicted, truth_masks=truth_masks, predicted_masks=predicted_masks, iou=iou
    )


@pytest.fixture
def edge_cases():
    """Pairs of label images in which one or both have no nucleus, by name."""
    empty, some = np.zeros((6, 8), np.int32), np.zeros((6, 8), np.int32)
    some[1:4, 1:3], some[2:5, 4:7] = 7, 3
    return {"neither": (empty, empty), "no truth": (empty, some), "no prediction": (some, empty), "same": (some, some)}
