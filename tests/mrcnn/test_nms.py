"""Non-maximum suppression: both kernels against a greedy loop."""

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn import nms

pytestmark = pytest.mark.backend
KERNELS = ["tensorflow", "ops"] if keras.backend.backend() == "tensorflow" else ["ops"]


def greedy(boxes, scores, count, threshold, valid=None):
    """Indices of one image's selected boxes, straight from the definition."""
    selected = []
    for index in np.argsort(-scores, kind="stable"):
        if len(selected) == count:
            break
        if valid is not None and not valid[index]:
            continue
        y1, x1, y2, x2 = boxes[index]
        for other in selected:
            v1, u1, v2, u2 = boxes[other]
            shared = max(0, min(y2, v2) - max(y1, v1)) * max(0, min(x2, u2) - max(x1, u1))
            union = (y2 - y1) * (x2 - x1) + (v2 - v1) * (u2 - u1) - shared
            if union > 0 and shared / union > threshold:
                break
        else:
            selected.append(int(index))
    return selected


def crowd(rng, batch, count):
    """Overlapping boxes `[batch, count, 4]` around a few centres, and scores."""
    centres = rng.uniform(0.2, 0.8, (batch, 8, 2))
    centre = centres[np.arange(batch)[:, None], rng.integers(0, 8, (batch, count))]
    centre = centre + rng.normal(0, 0.04, (batch, count, 2))
    half = rng.uniform(0.02, 0.15, (batch, count, 2))
    boxes = np.concatenate([centre - half, centre + half], axis=-1).astype(np.float32)
    return boxes, rng.uniform(0, 1, (batch, count)).astype(np.float32)


@pytest.fixture
def suppress(compiled):
    """Returns a function that lists the indices found in each image; it checks the form of the answer."""

    def call(boxes, scores, count, threshold, valid=None, kernel=None):
        valid = np.ones(scores.shape, bool) if valid is None else valid
        select = compiled(lambda *inputs: nms.non_max_suppression(*inputs[:2], count, threshold, inputs[2], kernel))
        indices, selected = map(ops.convert_to_numpy, select(*map(ops.convert_to_tensor, (boxes, scores, valid))))
        assert indices.dtype == np.int32
        assert indices.shape == selected.shape == (len(boxes), count)
        assert not indices[~selected].any(), "unused slots are 0"
        assert (np.diff(selected.astype(int), axis=1) <= 0).all(), "unused slots stand at the end"
        return [list(row[used]) for row, used in zip(indices, selected, strict=True)]

    return call


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_finds_what_the_loop_finds(suppress, kernel, threshold):
    boxes, scores = crowd(np.random.default_rng(0), batch=2, count=40)
    expected = [greedy(boxes[i], scores[i], 10, threshold) for i in range(2)]
    assert suppress(boxes, scores, 10, threshold, kernel=kernel) == expected


@pytest.mark.parametrize("kernel", KERNELS)
def test_several_tiles(suppress, kernel, monkeypatch):
    monkeypatch.setattr(nms, "TILE", 16)
    boxes, scores = crowd(np.random.default_rng(1), batch=2, count=40)
    expected = [greedy(boxes[i], scores[i], 40, 0.5) for i in range(2)]
    assert all(20 < len(selected) < 38 for selected in expected), "some stay and some go, beyond the first tile"
    assert suppress(boxes, scores, 40, 0.5, kernel=kernel) == expected


@pytest.mark.parametrize("kernel", KERNELS)
def test_more_boxes_than_a_tile(suppress, kernel, only_tensorflow):
    count = 2 * nms.TILE + 37
    boxes, scores = crowd(np.random.default_rng(1), batch=1, count=count)
    assert suppress(boxes, scores, 60, 0.5, kernel=kernel) == [greedy(boxes[0], scores[0], 60, 0.5)]


@pytest.mark.parametrize("kernel", KERNELS)
def test_long_chain_of_overlaps(suppress, kernel):
    # Each box overlaps only its neighbours, so that every second one stays, whatever the length.
    start = np.arange(40, dtype=np.float32)
    boxes = np.stack([start * 0.4, 0 * start, start * 0.4 + 1, 0 * start + 1], axis=-1)[None]
    scores = np.linspace(1, 0.1, 40, dtype=np.float32)[None]
    assert suppress(boxes, scores, 40, 0.3, kernel=kernel) == [list(range(0, 40, 2))]


@pytest.mark.parametrize("kernel", KERNELS)
def test_of_equal_scores_the_earlier_box_wins(suppress, kernel):
    boxes, scores = crowd(np.random.default_rng(2), batch=2, count=40)
    scores = np.round(scores, 1)
    expected = [greedy(boxes[i], scores[i], 40, 0.4) for i in range(2)]
    assert suppress(boxes, scores, 40, 0.4, kernel=kernel) == expected


@pytest.mark.parametrize("kernel", KERNELS)
def test_invalid_boxes_neither_stay_nor_suppress(suppress, kernel):
    rng = np.random.default_rng(3)
    boxes, scores = crowd(rng, batch=2, count=40)
    valid = rng.uniform(size=(2, 40)) < 0.5
    valid[1] = False
    expected = [greedy(boxes[i], scores[i], 30, 0.4, valid[i]) for i in range(2)]
    assert expected[1] == []
    assert suppress(boxes, scores, 30, 0.4, valid, kernel) == expected


@pytest.mark.parametrize("kernel", KERNELS)
def test_fewer_boxes_than_slots_and_negative_scores(suppress, kernel):
    boxes = np.array([[[0, 0, 1, 1], [0, 0, 1, 0.9], [2, 2, 3, 3]]], np.float32)
    scores = np.array([[-5.0, -1.0, -3.0]], np.float32)
    assert suppress(boxes, scores, 7, 0.5, kernel=kernel) == [[1, 2]]


@pytest.mark.parametrize("kernel", KERNELS)
def test_boxes_without_area_do_not_meet(suppress, kernel):
    boxes = np.array([[[0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [0, 0, 1, 1]]], np.float32)
    assert suppress(boxes, np.array([[0.9, 0.8, 0.7]], np.float32), 3, 0.1, kernel=kernel) == [[0, 1, 2]]
