"""Random RoIs lie where they should, and targets in NumPy lead back to the instances."""

import numpy as np
import pytest

from mrcnn.boxes import decode
from mrcnn.config import Config
from mrcnn.roi_heads import debug_targets

BOXES = np.array([(10, 10, 30, 40), (50, 5, 62, 20)], dtype=np.int32)


class SmallConfig(Config):
    NUM_CLASSES = 3
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 64
    TRAIN_ROIS_PER_IMAGE = 24
    USE_MINI_MASK = False


def full_masks():
    masks = np.zeros((64, 64, 2), dtype=bool)
    for index, (y1, x1, y2, x2) in enumerate(BOXES):
        masks[y1:y2, x1:x2, index] = True
    return masks


def targets(config, rois, masks):
    class_ids = np.array([2, 1], dtype=np.int32)
    return debug_targets.build_detection_targets(rois, class_ids, BOXES, masks, config, np.random.default_rng(0))


@pytest.mark.parametrize("boxes", [BOXES, BOXES[:0], np.array([(63, 63, 64, 64)])])
def test_random_rois_lie_in_the_image_near_the_boxes(boxes):
    rng = np.random.default_rng(0)
    rois = debug_targets.generate_random_rois((64, 64, 3), 200, np.ones(len(boxes), int), boxes, rng)
    assert rois.shape == (200, 4) and rois.dtype == np.int32
    assert (rois[:, :2] >= 0).all() and (rois[:, 2:] <= 64).all() and (rois[:, 2:] > rois[:, :2]).all()
    per_box = int(180 / len(boxes)) if len(boxes) else 0
    for index, (y1, x1, y2, x2) in enumerate(boxes):
        near = rois[index * per_box : (index + 1) * per_box]
        height, width = y2 - y1, x2 - x1
        assert (near[:, :2] >= (y1 - height, x1 - width)).all() and (near[:, 2:] <= (y2 + height, x2 + width)).all()


@pytest.mark.parametrize("mini", [False, True])
def test_targets_describe_the_instance_under_each_roi(mini):
    config = SmallConfig()
    config.USE_MINI_MASK = mini
    rois = np.array([(10, 10, 30, 40), (12, 12, 32, 40), (50, 5, 62, 22), *[(0, 45, 20 + i, 60) for i in range(30)]])
    masks = np.ones((28, 28, 2), dtype=bool) if mini else full_masks()
    chosen, class_ids, deltas, mask_targets = targets(config, rois, masks)
    assert chosen.shape == (24, 4) and sorted(class_ids) == [0] * 21 + [1, 2, 2]
    for roi, class_id, delta, mask in zip(chosen, class_ids, deltas, mask_targets, strict=True):
        others = [other for other in range(3) if other != class_id or other == 0]
        assert not delta[others].any() and not mask[..., others].any()
        if class_id:
            box = BOXES[2 - class_id]
            np.testing.assert_allclose(decode(roi.astype(float), delta[class_id] * config.BBOX_STD_DEV), box, atol=1e-4)
            y1, x1, y2, x2 = np.clip(box - np.tile(roi[:2], 2), 0, None) / np.tile(roi[2:] - roi[:2], 2) * 28
            expected = np.zeros((28, 28))
            expected[round(y1) : round(y2), round(x1) : round(x2)] = 1
            assert np.abs(mask[..., class_id] - expected).mean() < 0.1


def test_too_few_rois_are_repeated():
    config = SmallConfig()
    negative = np.array([(0, 45, 20, 60)])
    _, class_ids, _, _ = targets(config, np.concatenate([BOXES, negative]), full_masks())
    assert sorted(class_ids) == [0] * 22 + [1, 2]
    rois, class_ids, _, _ = targets(config, BOXES, full_masks())
    assert len(rois) == 24 and (class_ids > 0).all()


def test_positive_rois_stay_within_their_share():
    rois = np.concatenate([np.repeat(BOXES, 20, axis=0), np.tile([(0, 45, 20, 60)], (40, 1))])
    class_ids = targets(SmallConfig(), rois, full_masks())[1]
    assert (class_ids > 0).sum() == int(24 * 0.33)


def test_no_roi_or_no_instance_is_refused():
    with pytest.raises(ValueError, match="0 RoIs and 2 instances"):
        targets(SmallConfig(), BOXES[:0], full_masks())
