"""Protects the resampling of masks: the same values as scikit-image, whichever way a mask goes."""

import numpy as np
import pytest
from skimage.draw import disk
from skimage.transform import resize as skimage_resize

from mrcnn import masks
from mrcnn.evaluation import compute_overlaps_masks


def disks(shape, circles):
    stack = np.zeros((*shape, len(circles)), bool)
    for i, (y, x, radius) in enumerate(circles):
        stack[(*disk((y, x), radius, shape=shape), i)] = True
    return stack


@pytest.mark.parametrize(
    ("size", "shape"),
    [((28, 28), (17, 93)), ((28, 28), (28, 28)), ((28, 28), (1, 1)), ((5, 9), (100, 3)), ((301, 200), (56, 57))],
)
def test_resizing_mask_probabilities_equals_skimage(size, shape):
    mask = np.random.default_rng(0).random(size).astype(np.float32)
    expected = skimage_resize(mask, shape, order=1, mode="constant", cval=0, anti_aliasing=False)
    result = masks.resize_mask_probabilities(mask, shape)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_interpolation_matrix_is_shared_and_protected():
    matrix = masks.interpolation_matrix(28, 40)
    assert matrix is masks.interpolation_matrix(28, 40)
    with pytest.raises(ValueError, match="read-only"):
        matrix[0, 0] = 1


def test_unmold_mask_thresholds_inside_its_box_only():
    rng = np.random.default_rng(1)
    mask = rng.random((28, 28)).astype(np.float32)
    box = (5, 7, 46, 70)
    probabilities = np.zeros((60, 80))
    probabilities[5:46, 7:70] = skimage_resize(mask, (41, 63), order=1, mode="constant", anti_aliasing=False)
    for threshold in (0.5, 0.3):
        result = masks.unmold_mask(mask, box, (60, 80, 3), threshold=threshold)
        decided = np.abs(probabilities - threshold) > 1e-6
        assert result.dtype == bool and result.shape == (60, 80)
        np.testing.assert_array_equal(result[decided], (probabilities >= threshold)[decided])


def test_extract_bboxes_equals_loop():
    rng = np.random.default_rng(2)
    stack = rng.random((40, 30, 12)) > 0.995
    stack[:, :, 3] = False
    stack[0, 0, 4] = stack[-1, -1, 4] = True
    expected = []
    for i in range(stack.shape[-1]):
        y, x = np.nonzero(stack[:, :, i])
        expected.append([y.min(), x.min(), y.max() + 1, x.max() + 1] if y.size else [0, 0, 0, 0])
    for masks_in in (stack, stack.astype(np.uint8) * 255, stack.astype(np.float32)):
        boxes = masks.extract_bboxes(masks_in)
        assert boxes.dtype == np.int32
        np.testing.assert_array_equal(boxes, expected)


@pytest.mark.parametrize("shape", [(0, 0, 0), (20, 10, 0), (0, 0, 3)])
def test_extract_bboxes_of_nothing(shape):
    np.testing.assert_array_equal(masks.extract_bboxes(np.zeros(shape)), np.zeros((shape[-1], 4)))


def test_minimize_mask_equals_skimage():
    stack = disks((80, 90), [(20, 30, 9), (50, 60, 25.3), (3, 3, 6)])
    boxes = masks.extract_bboxes(stack)
    result = masks.minimize_mask(boxes, stack, (56, 48))
    assert result.dtype == bool and result.shape == (56, 48, 3)
    for i, (y1, x1, y2, x2) in enumerate(boxes):
        crop = stack[y1:y2, x1:x2, i].astype(float)
        expected = skimage_resize(crop, (56, 48), order=1, mode="constant", anti_aliasing=False)
        decided = np.abs(expected - 0.5) > 1e-6
        np.testing.assert_array_equal(result[:, :, i][decided], (expected > 0.5)[decided])


def test_expand_mask_reverses_minimize_mask():
    stack = disks((80, 90), [(20, 30, 9), (50, 60, 25.3)])
    # A fifth column may hold the class.
    boxes = masks.extract_bboxes(stack)
    boxes = np.concatenate([boxes, [[1], [1]]], axis=1)
    result = masks.expand_mask(boxes, masks.minimize_mask(boxes, stack, (56, 56)), (80, 90, 3))
    assert result.dtype == bool
    overlaps = np.diag(compute_overlaps_masks(stack, result))
    assert overlaps.min() > 0.93


def test_minimize_mask_names_an_empty_box():
    with pytest.raises(ValueError, match=r"area of zero.*box 0"):
        masks.minimize_mask(np.zeros((1, 4), int), np.ones((8, 8, 1), bool), (28, 28))
