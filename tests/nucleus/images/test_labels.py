"""Label images against plain loops and scikit-image."""

import numpy as np
import pytest
import skimage.measure

from nucleus.datasets.dataset import NucleusDataset, shipped_data
from nucleus.images.labels import (
    OVERLAP_RULES,
    areas,
    bounding_boxes,
    centroids,
    labels_to_masks,
    labels_to_rle,
    paint,
    relabel_sequential,
    rle_decode,
    rle_encode,
)


@pytest.fixture(scope="module")
def real_labels(tmp_path_factory):
    dataset = NucleusDataset(cache_dir=tmp_path_factory.mktemp("cache"))
    dataset.load_nucleus(shipped_data(), "val")
    sizes = [len(dataset.load_labels(i)[1]) for i in range(3)]
    return dataset.load_labels(int(np.argmax(sizes)))[0]


@pytest.fixture
def gappy_labels():
    labels = np.random.default_rng(3).integers(0, 9, (13, 17)).astype(np.int32)
    labels[np.isin(labels, (2, 5))] = 0
    return labels


def _discs(rng, count, shape=(40, 50)):
    """Overlapping discs as (boxes, crops, scores), some with one score, and their full masks."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    boxes, crops, masks = [], [], []
    while len(boxes) < count:
        y, x, r = rng.uniform(0, shape[0]), rng.uniform(0, shape[1]), rng.uniform(2, 9)
        mask = (yy - y) ** 2 + (xx - x) ** 2 < r**2
        ys, xs = np.nonzero(mask)
        if ys.size:
            box = (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1)
            boxes.append(box)
            crops.append(mask[box[0] : box[2], box[1] : box[3]])
            masks.append(mask)
    return np.array(boxes, np.int32), crops, rng.integers(1, 6, count) / 6, np.array(masks)


def test_each_mask_is_one_label(real_labels):
    masks = labels_to_masks(real_labels)
    assert masks.dtype == bool and masks.shape == (*real_labels.shape, real_labels.max())
    np.testing.assert_array_equal((masks * np.arange(1, masks.shape[2] + 1)).sum(axis=2), real_labels)
    assert labels_to_masks(np.zeros((4, 5), np.int32)).shape == (4, 5, 0)
    assert labels_to_masks(np.zeros((4, 5), np.int32), count=2).shape == (4, 5, 2)


def test_relabelling_closes_gaps_in_order(gappy_labels):
    labels, kept = relabel_sequential(gappy_labels)
    assert kept.tolist() == [0, 2, 3, 5, 6, 7] and labels.dtype == np.int32
    for new, old in enumerate(kept):
        np.testing.assert_array_equal(labels == new + 1, gappy_labels == old + 1)
    labels, kept = relabel_sequential(np.zeros((3, 3), np.int32))
    assert not labels.any() and kept.size == 0


@pytest.mark.parametrize("which", ["real_labels", "gappy_labels"])
def test_boxes_areas_and_centroids_agree_with_scikit_image(request, which):
    labels = request.getfixturevalue(which)
    boxes, sizes, centres = bounding_boxes(labels), areas(labels), centroids(labels)
    assert len(boxes) == len(sizes) == len(centres) == labels.max() and boxes.dtype == np.int32
    regions = {region.label: region for region in skimage.measure.regionprops(labels)}
    for k in range(labels.max()):
        if k + 1 not in regions:
            assert boxes[k].tolist() == [0, 0, 0, 0] and sizes[k] == 0 and np.isnan(centres[k]).all()
            continue
        region = regions[k + 1]
        assert tuple(boxes[k]) == region.bbox and sizes[k] == region.area
        np.testing.assert_allclose(centres[k], region.centroid)


def test_no_label_at_all():
    empty = np.zeros((4, 5), np.int32)
    assert bounding_boxes(empty).shape == (0, 4) and centroids(empty).shape == (0, 2)
    assert areas(empty).shape == (0,) and labels_to_rle(empty) == [] and rle_encode(empty) == ""


def _kaggle_rle(mask):
    """The code by Kaggle's description: walk down the columns, count from 1."""
    runs, previous = [], -2
    for position in np.flatnonzero(mask.T.flatten()).tolist():
        if position > previous + 1:
            runs.append([position + 1, 0])
        runs[-1][1] += 1
        previous = position
    return " ".join(f"{start} {length}" for start, length in runs)


def test_rle_of_an_example_by_hand():
    mask = np.array([[0, 1, 1], [1, 1, 0]], bool)  # columns: 0 1 | 1 1 | 1 0
    assert rle_encode(mask) == "2 4"
    np.testing.assert_array_equal(rle_decode("2 4", (2, 3)), mask)


@pytest.mark.parametrize("which", ["real_labels", "gappy_labels"])
def test_rle_of_all_labels(request, which):
    labels = request.getfixturevalue(which)
    codes = labels_to_rle(labels)
    assert len(codes) == labels.max()
    for k in [*range(0, len(codes), 1 + len(codes) // 8), len(codes) - 1]:
        mask, code = labels == k + 1, codes[k]
        assert code == _kaggle_rle(mask) == rle_encode(mask)
        np.testing.assert_array_equal(rle_decode(code, labels.shape), mask)


@pytest.mark.parametrize("code", ["1", "0 3", "5 3", "1 2 2 2", "4 1 1 1", "1 0", "a b", "1.5 2", "1 99"])
def test_codes_that_are_none_are_refused(code):
    with pytest.raises(ValueError, match="run"):
        rle_decode(code, (2, 3))


def _painted_by_loops(masks, scores, rule):
    """Owner of every pixel by the rules' wording, pixel by pixel; -1 for background."""
    sizes = masks.sum(axis=(1, 2))
    centres = [np.argwhere(mask).mean(axis=0) for mask in masks]
    owner = np.full(masks.shape[1:], -1)
    for y, x in np.argwhere(masks.any(axis=0)):
        claimants = np.flatnonzero(masks[:, y, x])
        owner[y, x] = min(
            claimants,
            key=lambda i: {
                "score": (-scores[i], i),
                "largest": (-sizes[i], -scores[i], i),
                "nearest-centroid": (np.float32(((centres[i] - (y, x)) ** 2).sum()), -scores[i], i),
            }[rule],
        )
    return owner


@pytest.mark.parametrize("rule", OVERLAP_RULES)
@pytest.mark.parametrize("seed", range(3))
def test_painting_follows_the_rule_pixel_by_pixel(rule, seed):
    boxes, crops, scores, masks = _discs(np.random.default_rng(seed), 40)
    labels, kept = paint(boxes, crops, scores, masks.shape[1:], rule)
    owner = _painted_by_loops(masks, scores, rule)
    assert kept.tolist() == np.unique(owner[owner >= 0]).tolist()
    np.testing.assert_array_equal(np.where(labels > 0, np.r_[0, kept][labels], -1), owner)
    assert labels.dtype == np.int32
    assert len(kept) < len(boxes) or rule == "nearest-centroid"


def test_rules_differ_where_they_should():
    # A small sure instance inside the rim of a large unsure one.
    boxes = np.array([[0, 0, 10, 10], [0, 0, 3, 3]])
    crops = [np.ones((10, 10), bool), np.ones((3, 3), bool)]
    scores = np.array([0.6, 0.9])
    kept = {rule: paint(boxes, crops, scores, (12, 12), rule)[1].tolist() for rule in OVERLAP_RULES}
    assert kept == {"score": [0, 1], "largest": [0], "nearest-centroid": [0, 1]}


def test_painting_nothing():
    labels, kept = paint(np.zeros((0, 4), np.int32), [], np.zeros(0), (5, 6))
    assert labels.shape == (5, 6) and not labels.any() and kept.size == 0
    labels, kept = paint(np.array([[1, 1, 3, 3]]), [np.zeros((2, 2), bool)], np.ones(1), (5, 6), "nearest-centroid")
    assert not labels.any() and kept.size == 0


@pytest.mark.parametrize(
    "box, crop_shape, rule, cause",
    [
        ((0, 0, 2, 2), (2, 2), "smallest", "overlap rule"),
        ((0, 0, 2, 2), (2, 3), "score", "crop 0"),
        ((0, 0, 2, 9), (2, 9), "score", "leaves the image"),
        ((-1, 0, 1, 2), (2, 2), "score", "leaves the image"),
    ],
)
def test_instances_that_cannot_be_painted_are_refused(box, crop_shape, rule, cause):
    with pytest.raises(ValueError, match=cause):
        paint(np.array([box]), [np.ones(crop_shape, bool)], np.ones(1), (5, 6), rule)
    with pytest.raises(ValueError, match="2 scores"):
        paint(np.array([[0, 0, 2, 2]]), [np.ones((2, 2), bool)], np.ones(2), (5, 6))
