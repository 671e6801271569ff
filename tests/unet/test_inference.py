"""Images of any size through a network that takes multiples of its stride, few graphs and batches of like size."""

import numpy as np
import pytest

from unet.inference import BATCH_IMAGES, BATCH_PIXELS, padded_side, predict_probabilities


@pytest.mark.parametrize("stride", [1, 4, 32])
def test_padded_sides_are_few_and_not_much_larger(stride):
    sides = {}
    for length in range(1, 2049):
        side = sides[length] = padded_side(length, stride)
        assert side >= length and side % stride == 0
        assert side - length < max(stride, length / 8)
        assert padded_side(side, stride) == side, "an image of that size is not padded"
    octaves = 12 - int(np.log2(stride))
    assert len(set(sides.values())) <= 8 * octaves
    assert [padded_side(length, 32) for length in (1, 256, 257, 520, 1040)] == [32, 256, 288, 576, 1152]


@pytest.mark.parametrize("shape", [(1, 1), (3, 70), (31, 33), (64, 32), (37, 5)])
def test_what_is_padded_is_cut_back(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    seen = []

    def run(batch):
        seen.append(batch)
        return batch[..., :2] / 255

    (probabilities,) = predict_probabilities(run, [image], 32)
    assert probabilities.shape == (*shape, 2) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, image[..., :2] / 255, atol=1e-6)

    (padded,) = seen
    assert padded.dtype == np.float32 and padded.shape[0] == 1
    height, width = padded.shape[1:3]
    assert height % 32 == width % 32 == 0

    def source(place, length):
        place %= 2 * length
        return place if place < length else 2 * length - 1 - place

    top, left = (height - shape[0]) // 2, (width - shape[1]) // 2
    for row, column in np.ndindex(height, width):
        expected = image[source(row - top, shape[0]), source(column - left, shape[1])]
        assert (padded[0, row, column] == expected).all()


def test_images_of_like_size_share_batches_whose_sizes_do_not_grow_in_number():
    rng = np.random.default_rng(0)
    shapes = [(20 + index % 12, 40) if index % 3 else (70, 10) for index in range(60)]
    images = [rng.integers(0, 256, (*shape, 1), np.uint8) for shape in shapes]
    seen = []

    def run(batch):
        seen.append(batch.shape)
        return batch / 255

    for count in range(1, len(images) + 1):
        found = predict_probabilities(run, images[:count], 32)
        for image, probabilities in zip(images, found, strict=False):
            np.testing.assert_allclose(probabilities, image / 255, atol=1e-6)
    assert {shape[1:] for shape in seen} == {(32, 64, 1), (96, 32, 1)}
    assert {shape[0] for shape in seen} == {1, 2, 4, 8}
    seen.clear()
    predict_probabilities(run, images, 32)
    assert sorted(shape[0] for shape in seen) == [4, *[8] * 7], "40 images of one size, 20 of the other"


def test_a_batch_has_a_limited_number_of_pixels():
    side = 512
    images = [np.zeros((side, side, 1), np.uint8)] * 9 + [np.zeros((2 * side, 3 * side, 1), np.uint8)] * 2
    seen = []

    def run(batch):
        seen.append(batch.shape[:3])
        return batch

    predict_probabilities(run, images, 32)
    assert [count for count, *_ in seen] == [4, 4, 1, 1, 1]
    assert all(count == 1 or count * height * width <= BATCH_PIXELS for count, height, width in seen)
    assert max(count for count, *_ in seen) <= BATCH_IMAGES
