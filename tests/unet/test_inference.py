"""Images of any size through a network that takes multiples of its stride."""

import numpy as np
import pytest

from unet.inference import padded_side, predict_probabilities


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

    probabilities = predict_probabilities(run, image, 32)
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
