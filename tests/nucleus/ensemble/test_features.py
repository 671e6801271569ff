"""Features of masks: values that a drawing shows, and no surprise in odd masks."""

import numpy as np
import pytest
from skimage.measure import regionprops

from nucleus.ensemble.candidates import gather
from nucleus.ensemble.features import GROUPS, describe_masks, feature_names


def ones(labels):
    return labels, np.ones(labels.max())


def grey(luminance):
    return np.repeat(np.asarray(luminance, np.uint8)[..., None], 3, axis=2)


@pytest.fixture
def drawing():
    """Two touching squares of member a, one mask of member b over the left one and a part of the right one."""
    a, b = np.zeros((20, 30), np.int32), np.zeros((20, 30), np.int32)
    a[5:10, 5:10] = 1
    a[5:10, 10:15] = 2
    b[5:10, 5:12] = 1
    image = np.full(a.shape, 50)
    image[a == 1], image[a == 2] = 150, 20
    return grey(image), {"a": (a, np.array([0.5, 0.6])), "b": (b, np.array([0.9]))}


def test_shape_is_that_of_scikit_image(scene):
    image, _, predictions = scene(1)
    labels, _ = predictions["big"]
    columns = describe_masks(gather(predictions), image)
    for region in regionprops(labels):
        mine = {name: columns[name][region.label - 1] for name in GROUPS["shape"]}
        assert mine["area"] == region.area and mine["convex_area"] == region.area_convex
        assert mine["eccentricity"] == pytest.approx(region.eccentricity)
        assert mine["solidity"] == pytest.approx(region.solidity)
        assert mine["major_axis"] == pytest.approx(region.axis_major_length)
        assert mine["roundness"] == pytest.approx(4 * np.pi * region.area / region.perimeter**2)


def test_intensities_are_those_in_and_around_the_mask(drawing):
    image, predictions = drawing
    columns = describe_masks(gather({"a": predictions["a"]}), image)
    assert columns["intensity"].tolist() == [150, 20] and columns["texture"].tolist() == [0, 0]
    assert columns["contrast"].tolist() == [100, -30]
    np.testing.assert_allclose(columns["image_intensity"], image[..., 0].mean(), rtol=1e-6)
    flat = describe_masks(gather({"a": predictions["a"]}), grey(np.full(image.shape[:2], 7)))
    assert flat["edge"].tolist() == [0, 0]


def test_the_edge_of_a_ramp_is_its_slope():
    ramp, labels = grey(np.tile(np.arange(0, 120, 4), (20, 1))), np.zeros((20, 30), np.int32)
    labels[5:12, 5:12] = 1
    assert describe_masks(gather({"a": ones(labels)}), ramp)["edge"].tolist() == [4]


def test_neighbours_are_those_of_the_same_member(drawing):
    image, predictions = drawing
    columns = describe_masks(gather(predictions), image)
    assert columns["touching"].tolist() == [1, 1, 0]
    np.testing.assert_allclose(columns["touching_part"], [5 / 20, 5 / 20, 0])
    assert columns["masks_in_image"].tolist() == [2, 2, 1]
    assert columns["at_image_border"].tolist() == [0, 0, 0]
    np.testing.assert_allclose(columns["relative_area"], [1, 1, 1])
    cropped = describe_masks(gather({"a": ones(predictions["a"][0][5:, :12])}), image[5:, :12])
    assert cropped["at_image_border"].tolist() == [1, 1]


def test_agreement_is_with_the_other_members(drawing):
    image, predictions = drawing
    predictions["c"] = np.zeros((20, 30), np.int32), np.zeros(0)
    columns = describe_masks(gather(predictions), image)
    iou = [25 / 35, 10 / 50, 25 / 35]
    np.testing.assert_allclose(columns["best_iou"], iou)
    np.testing.assert_allclose(columns["mean_iou"], np.array(iou) / 2)
    np.testing.assert_allclose(columns["partner_score"], [0.9, 0.9, 0.5])
    np.testing.assert_allclose(columns["covered"], np.array([1, 10 / 25, 1]) / 2)
    assert columns["pieces"].tolist() == [1, 0, 1]
    assert columns["from_b"].tolist() == [0, 0, 1] and columns["score"].tolist() == [0.5, 0.6, 0.9]


def test_a_lone_member_has_none_to_agree_with(drawing):
    image, predictions = drawing
    columns = describe_masks(gather({"a": predictions["a"]}), image)
    assert all((columns[name] == 0).all() for name in GROUPS["agreement"])


def test_names_are_those_of_the_columns_and_all_values_finite_in_odd_masks():
    single, filled = np.zeros((6, 7), np.int32), np.ones((6, 7), np.int32)
    single[0, 0], single[3, 2:6] = 1, 2
    for image in (grey(np.zeros((6, 7))), grey(np.arange(42).reshape(6, 7))):
        found = gather({"dots": ones(single), "all": ones(filled), "none": ones(np.zeros_like(single))})
        columns = describe_masks(found, image)
        assert set(feature_names(GROUPS, found.members)) == set(columns)
        for name, values in columns.items():
            assert values.shape == (3,) and values.dtype == np.float64 and np.isfinite(values).all(), name
        assert columns["contrast"][2] == 0 and columns["touching_part"][2] == 0


def test_an_image_without_any_mask_has_columns_without_rows():
    columns = describe_masks(gather({"a": ones(np.zeros((5, 5), np.int32))}), grey(np.zeros((5, 5))))
    assert {values.shape for values in columns.values()} == {(0,)}


def test_wrong_groups_and_shapes_are_refused(drawing):
    image, predictions = drawing
    with pytest.raises(ValueError, match="among shape, member"):
        feature_names(["shapes"], ["a"])
    with pytest.raises(ValueError, match="among shape, member"):
        feature_names([], ["a"])
    with pytest.raises(ValueError, match=r"\(19, 30\)"):
        describe_masks(gather(predictions), image[:-1])
    assert feature_names(["score", "shape"], ["a"])[0] == "area"
