"""From network outputs to objects in the original image."""

import numpy as np
import pytest
import skimage.transform

from mrcnn.results import Instances, detection_count, unmold_detections

IMAGE_SHAPE = (40, 60)


def make_instances(boxes, masks, threshold=0.5):
    count = len(boxes)
    return Instances(
        np.array(boxes, np.int32).reshape(count, 4),
        np.ones(count, np.int32),
        np.linspace(0.9, 0.5, count, dtype=np.float32),
        np.asarray(masks, np.float32),
        IMAGE_SHAPE,
        threshold,
    )


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.8])
def test_masks_are_the_small_masks_stretched_over_their_boxes(threshold):
    boxes = [(3, 5, 20, 45), (0, 0, 40, 60), (30, 50, 31, 52)]
    small = np.random.default_rng(0).uniform(size=(3, 28, 28)).astype(np.float32)
    found = make_instances(boxes, small, threshold)
    masks = found.masks()
    assert (masks.shape, masks.dtype, len(found)) == ((*IMAGE_SHAPE, 3), bool, 3)
    for index, (y1, x1, y2, x2) in enumerate(boxes):
        values = skimage.transform.resize(
            small[index].astype(float), (y2 - y1, x2 - x1), order=1, mode="constant", cval=0, anti_aliasing=False
        )
        clear = np.abs(values - threshold) > 1e-5
        np.testing.assert_array_equal(found.crop(index)[clear], (values >= threshold)[clear])
        np.testing.assert_array_equal(masks[y1:y2, x1:x2, index], found.crop(index))
        masks[y1:y2, x1:x2, index] = False
    assert not masks.any(), "nothing lies outside a box"


def test_no_objects():
    found = make_instances([], np.zeros((0, 28, 28)))
    assert found.masks().shape == (*IMAGE_SHAPE, 0)


def detections(*rows, padding=3):
    return np.array([*rows, *[[0] * 6] * padding], np.float32).reshape(-1, 6)


def test_padding_is_not_counted():
    row = [0.1, 0.1, 0.2, 0.2, 1, 0.9]
    assert detection_count(detections()) == 0
    assert detection_count(detections(row, row)) == 2
    assert detection_count(detections(row, row, padding=0)) == 2


def test_unmolding_undoes_resizing_and_padding():
    # An image of 40 x 60 pixels was doubled and padded to 128 x 128: it fills rows 24..104, columns 4..124.
    window = np.array([24, 4, 104, 124])
    boxes = np.array([[10, 15, 30, 45], [0, 0, 40, 60]])
    molded = boxes * 2 + np.array([24, 4, 24, 4])
    normalized = (molded - [0, 0, 1, 1]) / 127
    rows = [[*box, class_id, score] for box, class_id, score in zip(normalized, (2, 1), (0.9, 0.6), strict=True)]
    masks = np.random.default_rng(0).uniform(size=(5, 28, 28, 3)).astype(np.float32)
    found = unmold_detections(detections(*rows), masks, (40, 60, 3), (128, 128, 3), window, 0.4)
    np.testing.assert_allclose(found.boxes, boxes, atol=1)
    assert found.class_ids.tolist() == [2, 1]
    np.testing.assert_allclose(found.scores, [0.9, 0.6], rtol=1e-6)
    np.testing.assert_array_equal(found.mask_probabilities, [masks[0, :, :, 2], masks[1, :, :, 1]])
    assert (found.image_shape, found.mask_threshold) == ((40, 60), 0.4)
    assert [array.dtype for array in (found.boxes, found.class_ids, found.scores)] == [np.int32, np.int32, np.float32]


def test_an_aligned_network_puts_boxes_where_they_are_wherever_that_is():
    """In the lineage's coordinates edges move by half a pixel, by as much as the network's input is long."""
    boxes = np.array([[y, x, y + 21, x + 33] for y in range(0, 440, 97) for x in range(0, 640, 101)])
    off = 0.0
    for shape, window in (((960, 1344), (0, 0, 920, 1344)), ((1024, 1408), (52, 32, 972, 1376))):
        # Three tenths of a pixel further than whole pixels of the image.
        molded = boxes * 2 + 0.6 + np.tile(window[:2], 2)
        normalized = (molded - [0, 0, 1, 1]) / (np.tile(shape, 2) - 1)
        rows = detections(*[[*box, 1, 0.9] for box in normalized])
        arguments = (np.zeros((len(rows), 28, 28, 2)), (460, 672, 3), (*shape, 3), np.array(window))
        np.testing.assert_array_equal(unmold_detections(rows, *arguments, aligned=True).boxes, boxes)
        off = max(off, np.abs(unmold_detections(rows, *arguments).boxes - boxes).max())
    assert off == 1


def test_objects_without_a_pixel_are_dropped():
    rows = [0.2, 0.2, 0.6, 0.6, 1, 0.9], [0.5, 0.5, 0.497, 0.5, 1, 0.8], [0.1, 0.1, 0.3, 0.3, 2, 0.7]
    window = np.array([0, 0, 128, 128])
    found = unmold_detections(detections(*rows), np.zeros((6, 28, 28, 3)), (16, 16, 3), (128, 128, 3), window)
    assert found.class_ids.tolist() == [1, 2] and not found.limit_reached
    assert len(found.mask_probabilities) == 2
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    full = detections(*rows, padding=0)
    assert unmold_detections(full, np.zeros((3, 28, 28, 3)), (16, 16, 3), (128, 128, 3), window).limit_reached
