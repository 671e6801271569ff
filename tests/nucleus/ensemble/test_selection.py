"""Selection of masks: non-maximum suppression, thresholds, and the visible share under better masks."""

import numpy as np
import pytest

from nucleus.ensemble.candidates import gather
from nucleus.ensemble.selection import select
from nucleus.images.labels import relabel_sequential


def bar(*spans):
    """Returns a label image [3, 30] with a mask for each span of columns."""
    labels = np.zeros((3, 30), np.int32)
    for label, (start, stop) in enumerate(spans, start=1):
        labels[:, start:stop] = label
    return labels, np.ones(len(spans))


def test_of_overlapping_masks_the_better_stays():
    found = gather({"a": bar((0, 10), (20, 30)), "b": bar((1, 11))})
    chosen = select(found, np.array([0.6, 0.5, 0.7]))
    assert chosen.chosen.tolist() == [1, 2]
    assert chosen.labels[0].tolist() == [0] + [2] * 10 + [0] * 9 + [1] * 10
    chosen = select(found, np.array([0.7, 0.5, 0.7]))
    assert chosen.chosen.tolist() == [0, 1], "of equals the earlier"


def test_masks_that_overlap_less_both_stay_and_the_better_keeps_the_pixels():
    found = gather({"a": bar((0, 10)), "b": bar((6, 16))})  # IoU 4 / 16
    chosen = select(found, np.array([0.4, 0.5]))
    assert chosen.labels[0, :16].tolist() == [1] * 6 + [2] * 10
    assert select(found, np.array([0.4, 0.5]), nms_threshold=0.2).chosen.tolist() == [1]
    assert select(found, np.array([0.4, 0.5]), nms_threshold=0.25).chosen.tolist() == [0, 1], (
        "the threshold itself stays"
    )


def test_a_mask_yields_to_masks_that_stay_only():
    # The middle one beats the left one, and loses to the right one.
    found = gather({"a": bar((0, 8), (8, 18)), "b": bar((4, 13))})
    left, right, middle = 0.5, 0.9, 0.7
    assert select(found, np.array([left, right, middle])).chosen.tolist() == [0, 1]


def test_the_rim_of_a_clump_goes():
    clump, parts = bar((0, 12)), bar((0, 3), (3, 6), (6, 9))
    found = gather({"a": clump, "b": parts})
    quality = np.array([0.5, 0.9, 0.9, 0.9])
    assert select(found, quality).chosen.tolist() == [1, 2, 3]
    assert select(found, quality, least_visible=0).chosen.tolist() == [0, 1, 2, 3]
    assert select(found, quality, least_visible=0.25).chosen.tolist() == [0, 1, 2, 3], "a quarter is left"
    covered = gather({"a": bar((0, 9)), "b": parts})
    assert select(covered, quality, least_visible=0).chosen.tolist() == [1, 2, 3], "not a pixel is left"


def test_a_higher_threshold_takes_masks_away_without_changing_better_ones(blobs):
    rng = np.random.default_rng(5)
    for _ in range(10):
        members = [relabel_sequential(blobs(rng, count=20))[0] for _ in range(3)]
        found = gather({f"m{number}": (labels, np.ones(labels.max())) for number, labels in enumerate(members)})
        quality = rng.uniform(size=len(found)).round(1)
        everything = select(found, quality)
        for threshold in (0.3, 0.5, 0.8):
            some = select(found, quality, threshold)
            kept = quality[everything.chosen] >= threshold
            assert some.chosen.tolist() == everything.chosen[kept].tolist()
            table = np.concatenate([[False], kept])
            expected, _ = relabel_sequential(np.where(table[everything.labels], everything.labels, 0))
            np.testing.assert_array_equal(some.labels, expected)


def test_as_a_loop_over_boolean_masks_does(blobs):
    rng = np.random.default_rng(6)
    members = [relabel_sequential(blobs(rng, count=20))[0] for _ in range(2)]
    found = gather({str(number): (labels, np.ones(labels.max())) for number, labels in enumerate(members)})
    quality = rng.uniform(size=len(found))
    masks = [labels == label for labels in members for label in range(1, labels.max() + 1)]
    stayed, taken = [], np.zeros(members[0].shape, bool)
    for index in np.argsort(-quality):
        rivals = (masks[index] & masks[other] for other in stayed)
        unions = (masks[index] | masks[other] for other in stayed)
        if any(one.sum() / both.sum() > 0.3 for one, both in zip(rivals, unions, strict=True)):
            continue
        if (masks[index] & ~taken).sum() < 0.5 * masks[index].sum():
            continue
        stayed.append(index)
        taken |= masks[index]
    assert select(found, quality).chosen.tolist() == sorted(stayed)


@pytest.mark.parametrize("members", [1, 3])
def test_no_mask_at_all(members):
    found = gather({str(number): bar() for number in range(members)})
    chosen = select(found, np.zeros(0))
    assert not chosen.labels.any() and chosen.labels.dtype == np.int32 and chosen.chosen.shape == (0,)
