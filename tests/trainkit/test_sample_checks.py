"""Values of a data set that no network can learn from are refused with the image's name, before they train anything."""

import numpy as np
import pytest

from trainkit.augmentation import check_augmenter
from trainkit.imgaug_compat import iaa
from trainkit.sample_checks import check_class_ids, check_image, check_images, check_labels, check_masks, check_pair

IMAGE = np.zeros((8, 9, 3), np.uint8)


@pytest.mark.parametrize(
    ("image", "received"),
    [
        (IMAGE[..., 0], r"shape \(8, 9\), uint8"),
        (IMAGE[..., :2], r"shape \(8, 9, 2\), uint8"),
        (IMAGE[:0], r"shape \(0, 9, 3\), uint8"),
        (IMAGE.astype(complex), "complex128"),
        (None, "object"),
        (np.full(IMAGE.shape, np.nan), "NaN"),
    ],
)
def test_an_image_of_another_form_is_refused(image, received):
    with pytest.raises(ValueError, match=rf"^one\.png: expected.*{received}"):
        check_image(image, 3, "one.png")


@pytest.mark.parametrize("image", [IMAGE.astype(complex), IMAGE.astype(str), np.full(IMAGE.shape, np.inf), IMAGE[:0]])
def test_an_image_without_numbers_is_refused_before_it_is_predicted(image):
    assert len(check_images([IMAGE, IMAGE.astype(np.float32), IMAGE > 0], 3)) == 3
    with pytest.raises(ValueError, match=r"^Image 2 of 2: [Ee]xpected .*Received: "):
        check_images([IMAGE, image], 3)


@pytest.mark.parametrize(
    ("class_ids", "received"),
    [
        ([[1], [2]], r"shape \(2, 1\)"),
        ([1.5, 1], "float64"),
        (["1", "2"], "<U1"),
        ([1, 0], r"1 to 2 .*NUM_CLASSES is 3.*Received: \[0\]"),
        ([1, 3, -3, 7], r"Received: \[-3, 3, 7\]"),
    ],
)
def test_class_ids_out_of_range_are_refused(class_ids, received):
    with pytest.raises(ValueError, match=rf"^one\.png: expected class ids.*{received}"):
        check_class_ids(class_ids, 3, "one.png")


@pytest.mark.parametrize("class_ids", [[1, 2, -2], np.array([1.0, 2.0, -2.0]), np.array([1, 2, -2], np.int64)])
def test_whole_numbers_of_any_dtype_are_class_ids(class_ids):
    found = check_class_ids(class_ids, 3, "one.png")
    assert found.dtype == np.int32 and found.tolist() == [1, 2, -2]
    assert check_class_ids([], 3, "one.png").tolist() == []


@pytest.mark.parametrize(
    ("masks", "received"),
    [
        (np.zeros((8, 9), bool), r"one for each instance. Received: shape \(8, 9\)"),
        (np.zeros((2, 8, 9), bool), r"masks \(2, 8\), image \(8, 9\)"),
        (np.full((8, 9, 1), np.nan), "masks with NaN"),
        (None, "object"),
    ],
)
def test_masks_of_another_form_are_refused(masks, received):
    with pytest.raises(ValueError, match=rf"^one\.png: .*{received}"):
        check_masks(masks, IMAGE.shape, "one.png")


@pytest.mark.parametrize(
    ("labels", "received"),
    [
        (np.zeros((8, 9, 1), int), r"shape \(8, 9, 1\)"),
        (np.zeros((8, 9)), "float64"),
        (np.zeros((9, 8), int), r"\(8, 9, 3\) and \(9, 8\)"),
        (np.full((8, 9), -1), "-1 to -1"),
        (np.full((8, 9), 2**31), "2147483648 to 2147483648"),
    ],
)
def test_label_images_of_another_form_are_refused(labels, received):
    with pytest.raises(ValueError, match=rf"^one\.png: expected.*{received}"):
        check_labels(labels, IMAGE.shape, "one.png")


def test_good_values_are_not_copied():
    labels = np.ones((8, 9), np.int32)
    assert check_labels(labels, IMAGE.shape, "one.png") is labels
    assert check_image(IMAGE, 3, "one.png") is IMAGE
    assert check_labels(labels.astype(np.uint16), IMAGE.shape, "one.png").dtype == np.int32


@pytest.mark.parametrize(("loaded", "received"), [(None, "NoneType"), ((1, 2, 3), "3 values"), (IMAGE, "ndarray")])
def test_instances_without_class_ids_are_refused(loaded, received):
    with pytest.raises(ValueError, match=rf"^one\.png: expected two values.*Received: {received}"):
        check_pair(loaded, "one.png")


def test_a_list_of_augmenters_is_refused_with_what_joins_them():
    check_augmenter(iaa.Fliplr(0.5))
    with pytest.raises(ValueError, match=r"one imgaug augmenter.*Sequential.*Received: list"):
        check_augmenter([iaa.Fliplr(0.5)])
