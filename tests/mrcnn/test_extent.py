"""Maps of an input that is larger than its image: what lies beyond the image is not seen, by convolutions and RoIs."""

import numpy as np
import pytest
from keras import ops

from mrcnn.extent import RepeatedEnd, WithinExtent
from mrcnn.roi_align import pyramid_roi_align

pytestmark = pytest.mark.backend
# Two images of one batch, in an input of 64 x 96 pixels.
EXTENTS = np.array([[64, 64], [32, 96]], np.float32)
IMAGES = np.zeros((2, 64, 96, 3), np.float32)


def maps(stride):
    return np.random.default_rng(stride).normal(size=(2, 64 // stride, 96 // stride, 3)).astype(np.float32)


@pytest.mark.parametrize("stride", [4, 32])
def test_cells_beyond_the_extent_are_zero_or_repeat_the_last_inside(stride, run_layer):
    features = maps(stride)
    zero, repeated = (run_layer(layer, features, IMAGES, EXTENTS) for layer in (WithinExtent(), RepeatedEnd()))
    for index, (rows, columns) in enumerate((EXTENTS / stride).astype(int)):
        inside = features[index, :rows, :columns]
        beyond = [(0, features.shape[1] - rows), (0, features.shape[2] - columns), (0, 0)]
        np.testing.assert_array_equal(zero[index], np.pad(inside, beyond))
        np.testing.assert_allclose(repeated[index], np.pad(inside, beyond, mode="edge"), rtol=1e-6)


@pytest.mark.parametrize("aligned", [False, True])
def test_rois_are_pooled_as_from_the_maps_of_the_image_alone(aligned, run_layer):
    features = [maps(stride) for stride in (4, 8)]
    rois = np.array([[0, 0, 1, 1], [0.9, 0.9, 1, 1], [0.2, 0.1, 0.5, 0.6]], np.float32)
    repeated = [ops.convert_to_tensor(run_layer(RepeatedEnd(), level, IMAGES, EXTENTS)) for level in features]

    def pool(levels, rois, area, shape, share=None):
        image_shape = shape if aligned else None
        return ops.convert_to_numpy(pyramid_roi_align(levels, rois, area, 4, image_shape=image_shape, share=share))

    areas = ops.convert_to_tensor(EXTENTS.prod(axis=1, keepdims=True))
    share = ops.convert_to_tensor(EXTENTS / np.float32([64, 96]))
    found = pool(repeated, ops.convert_to_tensor(np.stack([rois] * 2)), areas, (64, 96), share)
    for index, (height, width) in enumerate(EXTENTS.astype(int)):
        alone = [
            ops.convert_to_tensor(level[index : index + 1, : height // stride, : width // stride])
            for level, stride in zip(features, (4, 8), strict=True)
        ]
        expected = pool(alone, ops.convert_to_tensor(rois[None]), float(height * width), (int(height), int(width)))
        np.testing.assert_allclose(found[index], expected[0], atol=1e-4)
