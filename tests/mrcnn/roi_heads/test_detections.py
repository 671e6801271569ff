"""Detections against a loop over classes and boxes, and their saving."""

import numpy as np
import pytest
from keras import ops

from mrcnn.image_meta import compose_image_meta
from mrcnn.roi_heads import detections

pytestmark = pytest.mark.backend
DEVIATION = (0.1, 0.1, 0.2, 0.2)


def iou(box, other):
    height = max(0.0, min(box[2], other[2]) - max(box[0], other[0]))
    width = max(0.0, min(box[3], other[3]) - max(box[1], other[1]))
    union = (box[2] - box[0]) * (box[3] - box[1]) + (other[2] - other[0]) * (other[3] - other[1]) - height * width
    return height * width / union


META = compose_image_meta(0, (64, 64, 3), (65, 65, 3), (0, 0, 65, 65), 1.0, np.ones(3))


@pytest.fixture
def detect(run_layer):
    """Returns a function that lists the detections of one image."""

    def call(rois, probabilities, deltas=None, meta=META, count=8, confidence=0.3):
        deltas = np.zeros((len(rois), 3, 4)) if deltas is None else deltas
        layer = detections.Detections(count, confidence, 0.3, DEVIATION)
        (found,) = run_layer(layer, *(np.asarray(part)[None] for part in (rois, probabilities, deltas, meta)))
        used = found[:, 4] > 0
        assert not found[~used].any()
        assert (np.diff(used.astype(int)) <= 0).all()
        return found[used]

    return call


def test_detections_of_each_class_suppress_each_other_only(detect, decode_one):
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 0.6, (60, 2))
    rois = np.concatenate([corners, corners + rng.uniform(0.1, 0.3, (60, 2))], axis=1)
    probabilities = rng.dirichlet((1, 1, 1), 60)
    deltas = rng.normal(0, 0.5, (60, 3, 4))
    ids, scores = probabilities.argmax(axis=1), probabilities.max(axis=1)
    boxes = np.array([decode_one(rois[i], deltas[i, ids[i]] * DEVIATION) for i in range(60)]).clip(0, 1)
    expected = []
    for index in np.argsort(-scores):
        rivals = [other for other in expected if ids[other] == ids[index]]
        if ids[index] and scores[index] >= 0.5 and all(iou(boxes[index], boxes[r]) <= 0.3 for r in rivals):
            expected.append(index)
    found = detect(rois, probabilities, deltas, count=40, confidence=0.5)
    assert set(ids[expected]) == {1, 2}
    np.testing.assert_array_equal(found[:, 4], ids[expected])
    np.testing.assert_allclose(found[:, 5], scores[expected], rtol=1e-6)
    np.testing.assert_allclose(found[:, :4], boxes[expected], atol=1e-5)
    np.testing.assert_array_equal(detect(rois, probabilities, deltas, count=5, confidence=0.5), found[:5])


ROIS = np.array([[0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.8, 0.8], [0, 0, 0, 0]])


def test_confidence_background_and_padding_drop_out(detect):
    probabilities = np.array([[0.2, 0.5, 0.3], [0.9, 0.05, 0.05], [0, 1, 0]])
    assert detect(ROIS, probabilities, confidence=0.5)[:, 4].tolist() == [1]
    assert len(detect(ROIS, probabilities, confidence=0.51)) == 0
    for no_limit in (0, None):
        assert detect(ROIS, [[0.3, 0.32, 0.38]] * 3, confidence=no_limit)[:, 4].tolist() == [2, 2]


def test_detections_are_clipped_to_the_image_inside_its_padding(detect):
    # 65 x 65 pixels of which rows 16..48 hold the image.
    meta = compose_image_meta(0, (33, 65, 3), (65, 65, 3), (16, 0, 49, 65), 1.0, np.ones(3))
    found = detect([[0, 0.2, 1, 0.5]], [[0.0, 1.0, 0.0]], meta=meta)
    np.testing.assert_allclose(found[0, :4], [0.25, 0.2, 0.75, 0.5], atol=1e-6)
    assert detections.DetectionBoxes()(ops.convert_to_tensor(found[None])).shape == (1, 1, 4)


@pytest.mark.parametrize(
    "layer",
    [
        detections.Detections(10, 0.5, 0.3, DEVIATION, name="detections"),
        detections.DetectionBoxes(name="boxes"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_settings_survive_saving(layer, check_settings):
    check_settings(layer)
