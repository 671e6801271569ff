"""The masks of several models, their overlaps, and their IoU with the truth."""

import numpy as np
import pytest

from nucleus.ensemble.candidates import gather, true_iou
from nucleus.images.labels import relabel_sequential


def test_overlaps_and_iou_are_those_of_boolean_masks(blobs):
    rng = np.random.default_rng(3)
    truth, *members = (relabel_sequential(blobs(rng))[0] for _ in range(4))
    found = gather({f"m{number}": (labels, np.ones(labels.max())) for number, labels in enumerate(members)})

    masks = [labels == label for labels in members for label in range(1, labels.max() + 1)]
    owner = [number for number, labels in enumerate(members) for _ in range(labels.max())]
    assert found.member.tolist() == owner and len(found) == len(masks)
    shared = {
        (a, b): np.count_nonzero(masks[a] & masks[b])
        for a in range(len(masks))
        for b in range(a + 1, len(masks))
        if owner[a] != owner[b]
    }
    expected = {pair: count for pair, count in shared.items() if count}
    pairs = list(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert expected and dict(zip(pairs, found.shared.tolist(), strict=True)) == expected
    for (a, b), iou in zip(pairs, found.iou, strict=True):
        assert iou == pytest.approx(expected[a, b] / np.count_nonzero(masks[a] | masks[b]))

    nuclei = [truth == label for label in range(1, truth.max() + 1)]
    best = [max(np.count_nonzero(mask & one) / np.count_nonzero(mask | one) for one in nuclei) for mask in masks]
    np.testing.assert_allclose(true_iou(found, truth), best)
    for index, mask in enumerate(masks):
        y1, x1, y2, x2 = found.boxes[index]
        np.testing.assert_array_equal(found.crop(index), mask[y1:y2, x1:x2])
        assert found.crop(index).sum() == found.area[index] == mask.sum()


def test_a_member_may_have_found_nothing(blobs):
    labels = relabel_sequential(blobs(np.random.default_rng(0)))[0]
    nothing = np.zeros_like(labels), np.zeros(0, np.float32)
    found = gather({"a": nothing, "b": (labels, np.ones(labels.max()))})
    assert set(found.member) == {1} and len(found.first) == 0
    assert len(gather({"a": nothing, "b": nothing})) == 0
    assert true_iou(gather({"a": nothing}), labels).shape == (0,)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([[0, 2]], [0.5, 0.5], "a: labels must be 1 to 2 without a gap; 1 is missing"),
        ([[0, 1]], [], "a: expected 1 scores"),
        ([[0, 1]], [1.5], r"in 0\.\.1"),
        ([[0, 1]], [np.nan], r"in 0\.\.1"),
        ([[0, -1]], [], "a: expected a label image"),
        ([[0.0, 1.0]], [1], "a: expected a label image"),
        ([0, 1], [1], "a: expected a label image"),
    ],
)
def test_what_is_no_prediction_is_named(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        gather({"a": (np.array(labels), np.array(scores))})


def test_members_must_predict_one_image():
    one, other = (np.zeros((2, width), np.int32) for width in (3, 4))
    with pytest.raises(ValueError, match=r"one shape. Received: a \(2, 3\), b \(2, 4\)"):
        gather({"a": (one, np.zeros(0)), "b": (other, np.zeros(0))})
    with pytest.raises(ValueError, match="one model at least"):
        gather({})
