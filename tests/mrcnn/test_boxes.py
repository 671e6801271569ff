"""Box arithmetic on NumPy arrays and on tensors, against loops."""

import numpy as np
import pytest
from keras import ops

from mrcnn import boxes as box_ops

pytestmark = pytest.mark.backend


def random_boxes(rng, count, size=100.0):
    corners = rng.uniform(0, size, (count, 2, 2)).astype(np.float32)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1) + 1], axis=-1)


def loop_iou(boxes1, boxes2):
    result = np.zeros((len(boxes1), len(boxes2)))
    for i, (y1, x1, y2, x2) in enumerate(boxes1.astype(float)):
        for j, (v1, u1, v2, u2) in enumerate(boxes2.astype(float)):
            shared = max(0.0, min(y2, v2) - max(y1, v1)) * max(0.0, min(x2, u2) - max(x1, u1))
            union = (y2 - y1) * (x2 - x1) + (v2 - v1) * (u2 - u1) - shared
            result[i, j] = shared / union if union > 0 else 0.0
    return result


@pytest.fixture(params=["numpy", "tensors"])
def both(request):
    """Calls a function with arrays or with tensors and returns NumPy either way."""

    def call(function, *arrays):
        if request.param == "numpy":
            result = function(*arrays)
            assert isinstance(result, np.ndarray)
            return result
        result = function(*(ops.convert_to_tensor(np.asarray(array, np.float32)) for array in arrays))
        assert ops.is_tensor(result)
        return ops.convert_to_numpy(result)

    return call


def test_area(both):
    np.testing.assert_allclose(both(box_ops.area, np.array([[0, 0, 2, 3], [1, 1, 1, 9]], np.float32)), [6, 0])


def test_iou_matrix(both):
    rng = np.random.default_rng(0)
    boxes1, boxes2 = random_boxes(rng, 12), random_boxes(rng, 7)
    boxes2[0], boxes2[1] = boxes1[3], 0
    np.testing.assert_allclose(both(box_ops.iou_matrix, boxes1, boxes2), loop_iou(boxes1, boxes2), atol=1e-6)


def test_iou_of_two_empty_boxes_is_zero(both):
    assert both(box_ops.iou_matrix, np.zeros((1, 4), np.float32), np.zeros((2, 4), np.float32)).tolist() == [[0, 0]]


def test_iou_matrix_of_a_batch_is_that_of_each_image(both):
    rng = np.random.default_rng(1)
    boxes1, boxes2 = random_boxes(rng, 10).reshape(2, 5, 4), random_boxes(rng, 6).reshape(2, 3, 4)
    expected = [loop_iou(boxes1[i], boxes2[i]) for i in range(2)]
    np.testing.assert_allclose(both(box_ops.iou_matrix, boxes1, boxes2), expected, atol=1e-6)


def test_encode_by_its_definition(both):
    # Centre (20, 30) and size (20, 40) becomes centre (25, 20) and size (10, 80).
    deltas = both(box_ops.encode, np.array([[10, 10, 30, 50.0]]), np.array([[20, -20, 30, 60.0]]))
    np.testing.assert_allclose(deltas, [[5 / 20, -10 / 40, np.log(0.5), np.log(2)]], atol=1e-6)


def test_decode_undoes_encode(both):
    rng = np.random.default_rng(2)
    boxes, targets = random_boxes(rng, 50), random_boxes(rng, 50)
    targets[:, 2:] = np.minimum(targets[:, 2:], targets[:, :2] + 60 * (boxes[:, 2:] - boxes[:, :2]))
    deltas = both(box_ops.encode, boxes, targets)
    np.testing.assert_allclose(both(box_ops.decode, boxes, deltas), targets, atol=1e-2)


def test_decode_limits_the_growth(both):
    wild = np.array([[0, 0, 50.0, 80.0], [0, 0, -50.0, 1.0]])
    y1, x1, y2, x2 = both(box_ops.decode, np.array([[0, 0, 2, 2.0]] * 2), wild).T
    np.testing.assert_allclose(y2 - y1, [2 * 62.5, 0], atol=1e-4)
    np.testing.assert_allclose(x2 - x1, [2 * 62.5, 2 * np.e], rtol=1e-5)


def test_clip(both):
    boxes = np.array([[-5, 2, 50, 9], [20, 20, 30, 30], [3, 4, 5, 6]], np.float32)
    clipped = both(box_ops.clip, boxes, np.array([0, 0, 10, 12], np.float32))
    assert clipped.tolist() == [[0, 2, 10, 9], [10, 12, 10, 12], [3, 4, 5, 6]]


def test_normalized_boxes_end_at_pixel_centres():
    boxes = box_ops.normalize(np.array([[0, 0, 64, 32], [63, 31, 64, 32]]), (64, 32))
    assert boxes.dtype == np.float32
    np.testing.assert_allclose(boxes, [[0, 0, 1, 1], [1, 1, 1, 1]])


def test_denormalize_undoes_normalize():
    boxes = random_boxes(np.random.default_rng(3), 100, size=700).astype(np.int32)
    back = box_ops.denormalize(box_ops.normalize(boxes, (701, 803)), (701, 803))
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, boxes)
