"""Views of images and the way back, against indices and coordinates worked out here."""

import itertools

import numpy as np
import pytest

from nucleus.models.views import SYMMETRIES, View, make_views

EIGHT = make_views("flips-rotations")
SHAPES = [(1, 1), (1, 7), (6, 6), (5, 8), (31, 17)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("view", EIGHT, ids=str)
def test_flips_and_turns_are_undone_exactly(view, shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    shown = view.apply(image)
    assert shown.dtype == np.uint8 and shown.flags.c_contiguous
    assert shown.shape[:2] == (shape if view.quarter_turns % 2 == 0 else shape[::-1])
    np.testing.assert_array_equal(view.restore(shown.astype(np.float32), shape), image)


def test_the_views_are_the_symmetries_of_the_square():
    image = np.arange(9, dtype=np.float32).reshape(3, 3, 1)
    corners_of_all = {tuple(view.apply(image)[[0, 0, 2, 2], [0, 2, 0, 2], 0]) for view in EIGHT}
    assert len(corners_of_all) == 8
    flips = {tuple(view.apply(image).ravel()) for view in make_views("flips")}
    expected = [image, image[:, ::-1], image[::-1], image[::-1, ::-1]]
    assert flips == {tuple(array.ravel()) for array in expected}
    for name in SYMMETRIES:
        assert make_views(name)[0] == View(), "the image as it is comes first"
    np.testing.assert_array_equal(View(quarter_turns=1).apply(image)[..., 0], np.rot90(image[..., 0]))


def test_views_of_one_size_come_one_after_the_other():
    sizes = [view.apply(np.zeros((6, 9, 3), np.uint8)).shape for view in make_views("flips-rotations", (1, 0.5))]
    assert len([size for size, _ in itertools.groupby(sizes)]) == len(set(sizes)) == 4


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("view", EIGHT, ids=str)
def test_instances_go_where_their_pixels_go(view, shape):
    rng = np.random.default_rng(1)
    crop = rng.random((max(1, shape[0] // 2), max(1, shape[1] // 3))).astype(np.float32)
    y, x = shape[0] - crop.shape[0], (shape[1] - crop.shape[1]) // 2
    full = np.full((*shape, 1), -1, np.float32)
    full[y:, x : x + crop.shape[1], 0] = crop
    shown = view.apply(full)[..., 0]
    ys, xs = np.nonzero(shown >= 0)
    seen = (ys.min(), xs.min(), ys.max() + 1, xs.max() + 1)

    boxes, (restored,) = view.restore_instances([seen], [shown[ys.min() : seen[2], xs.min() : seen[3]]], shape)
    np.testing.assert_array_equal(boxes, [(y, x, shape[0], x + crop.shape[1])])
    np.testing.assert_array_equal(restored, crop)


def test_no_instances_come_back_as_none():
    for view in make_views("flips-rotations", (1, 0.7)):
        boxes, crops = view.restore_instances(np.zeros((0, 4), np.int32), [], (9, 5))
        assert boxes.shape == (0, 4) and crops == []


@pytest.mark.parametrize("symmetry", [(False, 0), (True, 1), (False, 3)])
@pytest.mark.parametrize(("shape", "scale"), [((37, 51), 0.5), ((37, 51), 1.3), ((40, 64), 2), ((33, 20), 0.77)])
def test_scaling_shifts_nothing(shape, scale, symmetry):
    """A ramp says where a pixel was: brought to the view and back it is the same ramp, away from the edges."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    ramp = np.stack([(y + 0.5) / shape[0], (x + 0.5) / shape[1]], axis=-1)
    view = View(*symmetry, scale)
    shown = view.apply(ramp)
    expected = [round(side * scale) for side in shape]
    assert sorted(shown.shape[:2]) == sorted(expected)
    back = view.restore(shown, shape)
    margin = int(np.ceil(1 / scale)) + 1
    inner = (slice(margin, -margin), slice(margin, -margin))
    # Averaging an area of the smaller view weights pixels in steps; a shift of half a pixel would be 0.5 / 37.
    np.testing.assert_allclose(back[inner], ramp[inner], atol=0.1 / min(shape))


@pytest.mark.parametrize("scale", [0.5, 0.8, 1.25, 2, 3])
@pytest.mark.parametrize("symmetry", [(False, 0), (True, 3)])
def test_scaled_instances_go_where_the_scaled_channels_go(scale, symmetry):
    shape = (41, 30)
    view = View(*symmetry, scale)
    shown = view.apply(np.zeros((*shape, 3), np.uint8)).shape[:2]
    crop = np.random.default_rng(2).random((9, 11)).astype(np.float32)
    channel = np.zeros((*shown, 1), np.float32)
    channel[4:13, 2:13, 0] = crop
    (box,), (restored,) = view.restore_instances([(4, 2, 13, 13)], [crop], shape)
    assert restored.dtype == np.float32 and restored.shape == (box[2] - box[0], box[3] - box[1])

    full = np.zeros(shape, np.float32)
    full[box[0] : box[2], box[1] : box[3]] = restored
    expected = view.restore(channel, shape)[..., 0]
    # Inside, away from the rim where a channel blends with the background around the box.
    rim = int(np.ceil(1 / scale))
    inner = (slice(box[0] + rim, box[2] - rim), slice(box[1] + rim, box[3] - rim))
    assert full[inner].size
    np.testing.assert_allclose(full[inner], expected[inner], atol=1e-5)
    assert box[0] >= 0 and box[1] >= 0 and box[2] <= shape[0] and box[3] <= shape[1]


@pytest.mark.parametrize("scale", [0.37, 1.6])
def test_more_channels_than_an_image_has_are_scaled_like_its_own(scale):
    image = np.random.default_rng(0).integers(0, 256, (50, 61, 6), np.uint8)
    view = View(scale=scale)
    both = np.concatenate([view.apply(image[:, :, :3]), view.apply(image[:, :, 3:])], axis=2)
    np.testing.assert_array_equal(view.apply(image), both)


def test_a_box_of_the_whole_scaled_view_is_the_whole_image():
    for shape, scale in itertools.product([(1, 1), (5, 3), (64, 33)], (0.1, 0.5, 0.9, 1.1, 2.5)):
        view = View(scale=scale)
        height, width = view.apply(np.zeros((*shape, 3), np.uint8)).shape[:2]
        boxes, crops = view.restore_instances([(0, 0, height, width)], [np.ones((height, width), bool)], shape)
        np.testing.assert_array_equal(boxes, [(0, 0, *shape)])
        np.testing.assert_array_equal(crops[0], np.ones(shape))


def test_an_instance_between_the_centres_of_pixels_is_left_without_any():
    boxes, crops = View(scale=3).restore_instances([(3, 3, 4, 4), (4, 4, 5, 5)], [np.ones((1, 1))] * 2, (6, 6))
    assert [crop.size for crop in crops] == [0, 1]
    np.testing.assert_array_equal(boxes[1], (1, 1, 2, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("spirals",), "one of none, flips, flips-rotations.*'spirals'"),
        (("flips", ()), "above 0"),
        (("flips", (1, 0)), "above 0"),
        (("flips", (1, 1.0)), "none twice"),
        (("flips", (float("nan"),)), "above 0"),
        (("flips", (float("inf"),)), "above 0"),
    ],
)
def test_views_that_cannot_be_made(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_views(*arguments)


def test_a_view_describes_itself():
    assert str(View()) == "unchanged"
    assert str(View(True, 1, 0.5)) == "mirrored and turned by 90 degrees and scaled by 0.5"
