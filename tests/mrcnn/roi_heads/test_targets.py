"""The sample of RoIs that trains the heads, and its targets, against their definitions."""

import numpy as np
import pytest

from mrcnn.masks import minimize_mask, unmold_mask
from mrcnn.roi_heads import targets

pytestmark = pytest.mark.backend
DEVIATION = (0.1, 0.1, 0.2, 0.2)

# One image of 33 x 33 pixels, so that normalised multiples of 1/32 are pixel centres.
GT_BOXES = np.array([[0, 0, 16, 16], [16, 16, 32, 32], [0, 20, 8, 28], [0, 0, 0, 0]]) / 32
GT_IDS = np.array([1, 2, -1, 0], np.int32)  # the third is a crowd, the fourth padding
PROPOSALS = (
    np.array(
        [
            [0, 0, 16, 16],  # the first object itself
            [0, 0, 16, 12],  # IoU 0.75 with it
            [0, 0, 16, 8],  # IoU 0.5: still positive
            [0, 0, 16, 7],  # IoU below: negative
            [16, 18, 32, 32],  # the second object, nearly
            [24, 0, 32, 8],  # nothing: negative
            [0, 20, 8, 27],  # on the crowd: neither
            [0, 0, 0, 0],  # padding: neither
        ]
    )
    / 32
)


def gt_masks():
    """`[33, 33, 4]`: a disc-like, an L-shaped and a full mask inside their boxes."""
    masks = np.zeros((33, 33, 4), bool)
    y, x = np.mgrid[:33, :33]
    masks[..., 0] = (y - 8) ** 2 + (x - 8) ** 2 <= 60
    masks[16:33, 16:20, 1] = masks[28:33, 16:33, 1] = True
    masks[0:9, 20:29, 2] = True
    return masks


@pytest.fixture
def choose(run_layer):
    """Returns a function that samples RoIs of one image with their targets."""

    def call(proposals=PROPOSALS, ids=GT_IDS, boxes=GT_BOXES, masks=None, count=12, ratio=0.5, mini=False, seed=0):
        masks = gt_masks() if masks is None else masks
        layer = targets.DetectionTargets(count, ratio, DEVIATION, (9, 9), mini, seed=seed)
        outputs = run_layer(layer, *(np.asarray(part)[None] for part in (proposals, ids, boxes, masks)))
        return [output[0] for output in outputs]

    return call


def test_the_first_rois_are_kept(run_layer):
    rois = np.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(run_layer(targets.FirstRois(2), rois), rois[:, :2])


def rows(boxes):
    return sorted(tuple(np.round(box * 32).astype(int)) for box in boxes)


def test_positives_and_negatives(choose):
    rois, class_ids, _, _ = choose()
    assert rows(rois[class_ids == 1]) == [(0, 0, 16, 8), (0, 0, 16, 12), (0, 0, 16, 16)]
    assert rows(rois[class_ids == 2]) == [(16, 18, 32, 32)]
    assert rows(rois[class_ids == 0]) == [(0, 0, 16, 7), (24, 0, 32, 8)], "neither the crowd's nor padding"
    assert sorted(class_ids) == [-1] * 6 + [0] * 2 + [1] * 3 + [2]
    assert (class_ids[6:] <= 0).all(), "positives stand in the first slots"
    assert not rois[class_ids == -1].any()


def test_deltas_lead_from_the_roi_to_its_object(choose, decode_one):
    rois, class_ids, deltas, _ = choose()
    for roi, class_id, delta in zip(rois, class_ids, deltas, strict=True):
        if class_id > 0:
            np.testing.assert_allclose(decode_one(roi, delta * DEVIATION), GT_BOXES[class_id - 1], atol=1e-5)
        else:
            assert not delta.any()


@pytest.mark.parametrize("mini", [False, True])
def test_target_masks_are_the_object_inside_the_roi(mini, choose):
    masks = gt_masks()
    if mini:  # the mask inside its box, at the resolution of 17 x 17 of which every second point is a pixel's centre
        small = np.zeros((17, 17, 4), bool)
        for index, (y1, x1, y2, x2) in enumerate((GT_BOXES * 32).astype(int)[:2]):
            small[..., index] = masks[y1 : y2 + 1, x1 : x2 + 1, index]
        rois, class_ids, _, targets = choose(masks=small, mini=True)
    else:
        rois, class_ids, _, targets = choose()
    assert targets.shape == (6, 9, 9)
    checked = 0
    for roi, class_id, target in zip(rois, class_ids, targets, strict=False):
        if class_id <= 0:
            assert not target.any()
            continue
        y1, x1, y2, x2 = roi * 32
        mask = masks[..., class_id - 1].astype(float)
        for i in range(9):
            for j in range(9):
                y, x = y1 + (y2 - y1) * i / 8, x1 + (x2 - x1) * j / 8
                row, col = min(int(y + 1e-5), 31), min(int(x + 1e-5), 31)
                weights = np.outer([1 - (y - row), y - row], [1 - (x - col), x - col])
                value = (mask[row : row + 2, col : col + 2] * weights).sum()
                if abs(value - 0.5) > 1e-3:
                    assert target[i, j] == (value > 0.5)
                    checked += 1
    assert checked > 200


def test_too_many_positives_keep_the_ratio(choose):
    rng = np.random.default_rng(0)
    positives = GT_BOXES[0] + rng.uniform(-0.02, 0.02, (30, 4)).clip(0)
    negatives = np.tile([24, 0, 32, 8], (30, 1)) / 32
    _, class_ids, _, masks = choose(np.concatenate([positives, negatives]), count=12, ratio=0.25)
    assert (class_ids == 1).sum() == 3 == len(masks)
    assert (class_ids == 0).sum() == 9


def test_few_positives_limit_the_negatives(choose):
    # One positive and a ratio of 1/4 leave room for three negatives of the thirty.
    proposals = np.concatenate([PROPOSALS[:1], np.tile(PROPOSALS[5], (30, 1))])
    _, class_ids, _, _ = choose(proposals, count=12, ratio=0.25)
    assert sorted(class_ids) == [-1] * 8 + [0] * 3 + [1]


def test_an_image_without_objects_teaches_the_background(choose):
    nothing = np.zeros(4, np.int32)
    _, class_ids, deltas, masks = choose(np.tile(PROPOSALS[5], (30, 1)), nothing, 0 * GT_BOXES, count=12, ratio=0.25)
    assert sorted(class_ids) == [-1] * 3 + [0] * 9
    assert not deltas.any()
    assert not masks.any()


def test_fewer_proposals_than_slots_and_none_at_all(choose):
    rois, class_ids, _, _ = choose(PROPOSALS[:2], count=10)
    assert sorted(class_ids) == [-1] * 8 + [1] * 2
    rois, class_ids, deltas, masks = choose(0 * PROPOSALS)
    assert (class_ids == -1).all()
    for array in (rois, deltas, masks):
        assert np.isfinite(array).all()
        assert not array.any()


def test_the_choice_depends_on_the_seed_alone(choose):
    crowd = GT_BOXES[0] + np.random.default_rng(0).uniform(0, 0.05, (40, 4))
    first, again, other = (choose(crowd, count=8, seed=seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize(
    "layer",
    [
        targets.DetectionTargets(10, 0.3, DEVIATION, (28, 28), True, seed=3, name="targets"),
        targets.FirstRois(3, name="first"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_settings_survive_saving(layer, check_settings):
    check_settings(layer)


@pytest.mark.parametrize("mini", [False, True])
def test_aligned_masks_keep_their_size_when_they_are_painted(run_layer, mini):
    """A disc of 41 pixels in an image of 64: learned as 28 x 28 pixels and painted, it is the same disc."""
    y, x = np.mgrid[:64, :64]
    disc = (y - 30) ** 2 + (x - 25) ** 2 <= 20.4**2
    box, roi = np.array([10, 5, 51, 46]), np.array([7, 4, 53, 48])
    mask = minimize_mask(box[None], disc[..., None], (56, 56)) if mini else disc[..., None]
    normalised = [(each - [0, 0, 1, 1])[None, None] / 63 for each in (roi, box)]
    image = np.zeros((1, 64, 64, 3))

    def painted(aligned):
        layer = targets.DetectionTargets(2, 0.5, DEVIATION, (28, 28), mini, aligned=aligned)
        inputs = [normalised[0], np.ones((1, 1), np.int32), normalised[1], mask[None], *([image] if aligned else [])]
        return unmold_mask(run_layer(layer, *inputs)[3][0, 0], roi, (64, 64))

    assert (painted(True) & disc).sum() / (painted(True) | disc).sum() > 0.97
    assert abs(painted(True).sum() / disc.sum() - 1) < 0.01
    assert painted(False).sum() / disc.sum() < 0.975, "the lineage's come out smaller"
