"""Instances of several views, merged: what they agree on, what few of them show, and what they read in two ways."""

import numpy as np
import pytest

from nucleus.models.voting import merge_views


def view(*instances):
    """Makes what one view shows from (box, score) or (box, score, probabilities inside the box)."""
    boxes = np.array([instance[0] for instance in instances], np.int64).reshape(-1, 4)
    crops = [rest[0] if rest else np.ones((box[2] - box[0], box[3] - box[1]), bool) for box, _, *rest in instances]
    return boxes, crops, np.array([instance[1] for instance in instances], np.float32)


def corners(found):
    return [tuple(box) for box in found[0].tolist()]


def full(box, crop):
    """Puts one instance into an image."""
    image = np.zeros((40, 40))
    image[box[0] : box[2], box[1] : box[3]] = crop
    return image


LEFT, RIGHT, BOTH, ELSEWHERE = (10, 10, 20, 19), (10, 19, 20, 28), (10, 10, 20, 28), (40, 3, 45, 9)


@pytest.mark.parametrize("views", [1, 2, 3, 7, 8, 24])
def test_views_that_agree_change_nothing(views):
    rng = np.random.default_rng(views)
    boxes = np.array([(0, 0, 9, 7), (2, 5, 11, 13), (3, 3, 6, 6), (30, 30, 31, 31)])
    crops = [rng.random(box[2:] - box[:2]).astype(np.float32) for box in boxes]
    crops[3][:] = 0.5
    scores = np.array([0.91, 0.7, 0.7, 0.3], np.float32)
    merged_boxes, masks, merged_scores = merge_views([(boxes, crops, scores)] * views)
    np.testing.assert_array_equal(merged_scores, scores)
    for box, mask, old_box, crop in zip(merged_boxes, masks, boxes, crops, strict=True):
        np.testing.assert_array_equal(full(box, mask), full(old_box, crop >= 0.5))
        assert mask.shape == tuple(box[2:] - box[:2])
        assert all(mask.take(end, axis).any() for axis in (0, 1) for end in (0, -1)), "the box is tight"


def test_the_mask_is_that_of_the_average_probability():
    rng = np.random.default_rng(0)
    blob = np.pad(np.ones((8, 9)), 3)
    boxes = [(4 + y, 5 + x, 18 + y, 20 + x) for y, x in ((0, 0), (1, 0), (0, 0), (0, 1), (0, 0))]
    crops = [(np.clip(blob + rng.normal(0, 0.25, blob.shape), 0, 1)).astype(np.float32) for _ in boxes]
    (box,), (mask,), scores = merge_views([view((b, 0.8, crop)) for b, crop in zip(boxes, crops, strict=True)], 0.5)

    average = sum(full(b, crop.astype(float)) for b, crop in zip(boxes, crops, strict=True)) / len(boxes)
    np.testing.assert_array_equal(full(box, mask), average >= 0.5)
    assert mask.sum() == pytest.approx(72, abs=6)
    np.testing.assert_allclose(scores, [0.8])


def test_the_threshold_is_that_of_the_model():
    crop = np.full((4, 4), 0.4, np.float32)
    assert corners(merge_views([view(((0, 0, 4, 4), 0.9, crop))] * 2, threshold=0.3)) == [(0, 0, 4, 4)]
    assert corners(merge_views([view(((0, 0, 4, 4), 0.9, crop))] * 2, threshold=0.5)) == []


def test_what_few_views_show_counts_less_and_goes_below_the_share():
    views = [view((LEFT, 0.6), (ELSEWHERE, 1.0))] + [view((LEFT, 0.6))] * 3
    boxes, _, scores = found = merge_views(views, least_share=0.25)
    assert corners(found) == [LEFT, ELSEWHERE]
    np.testing.assert_allclose(scores, [0.6, 0.25])
    assert boxes.dtype == np.int64 and scores.dtype == np.float32
    assert corners(merge_views(views, least_share=0.26)) == [LEFT]


@pytest.mark.parametrize(("shown", "views"), [(11, 20), (7, 25), (3, 10), (24, 24)])
def test_exactly_the_share_is_enough(shown, views):
    found = [view((LEFT, 0.9))] * shown + [view()] * (views - shown)
    assert corners(merge_views(found, round(shown / views, 2))) == [LEFT]


def test_a_view_without_instances_counts_as_one():
    _, _, scores = merge_views([view(), view((LEFT, 0.9)), view()], least_share=0.3)
    np.testing.assert_allclose(scores, [0.3])
    assert corners(merge_views([view(), view((LEFT, 0.9)), view()])) == []


@pytest.mark.parametrize("views", [[view()], [view(), view()], [view((LEFT, 0.9, np.zeros((10, 9), np.float32)))]])
def test_nothing_in_any_view(views):
    boxes, masks, scores = merge_views(views)
    assert boxes.shape == (0, 4) and masks == [] and scores.shape == (0,)


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("split", "merged", "expected"), [(5, 3, [LEFT, RIGHT]), (3, 5, [BOTH]), (7, 1, [LEFT, RIGHT])]
)
def test_most_views_decide_whether_it_is_one_nucleus_or_two(split, merged, expected, order):
    views = [view((LEFT, 0.8), (RIGHT, 0.7))] * split + [view((BOTH, 0.8))] * merged
    assert corners(merge_views(views[::order])) == expected


@pytest.mark.parametrize(("score", "expected"), [(0.9, [BOTH]), (0.75, [LEFT, RIGHT])])
def test_when_as_many_views_say_each_the_score_decides(score, expected):
    views = [view((LEFT, 0.8), (RIGHT, 0.8)), view((BOTH, score))] * 2
    assert corners(merge_views(views)) == expected


def test_what_views_show_together_is_left_to_the_overlap_rule():
    inside = (12, 12, 16, 16)
    views = [view((LEFT, 0.8), (inside, 0.9))] * 3
    assert corners(merge_views(views)) == [inside, LEFT]
    apart = [view((LEFT, 0.8)), view((inside, 0.9))] * 2
    assert corners(merge_views(apart)) == [inside]


def test_each_instance_of_a_view_has_its_own_partner_the_nearest_first():
    first = view(((0, 0, 10, 10), 0.9))
    # Both have an IoU above 0.5 with it; the second is nearer, though the first scores higher.
    second = view(((0, 3, 10, 12), 0.9), ((0, 1, 10, 10), 0.4))
    boxes, _, scores = merge_views([first, second], least_share=0.1)
    near, alone = (np.flatnonzero(boxes[:, 1] == x)[0] for x in (0, 3))
    np.testing.assert_allclose(scores[[near, alone]], [0.65, 0.45])


def test_memory_goes_with_the_boxes_and_not_with_the_image():
    far = 10**9
    views = [view((LEFT, 0.9), ((far, far, far + 5, far + 5), 0.8))] * 4
    assert corners(merge_views(iter(views))) == [LEFT, (far, far, far + 5, far + 5)]


def test_no_view_is_no_answer():
    with pytest.raises(ValueError, match="no view"):
        merge_views([])
