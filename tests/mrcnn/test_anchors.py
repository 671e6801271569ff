"""Anchors of one level and of the pyramid, their order, and the shapes that they depend on."""

import math
import tracemalloc

import numpy as np
import pytest

from mrcnn import anchors
from mrcnn.config import Config


class SmallConfig(Config):
    RPN_ANCHOR_SCALES = (8, 16, 32, 64, 128)
    IMAGE_MIN_DIM = IMAGE_MAX_DIM = 128


def loop_anchors(scales, ratios, shapes, strides, anchor_stride):
    """One anchor at a time, in the order of the RPN's output."""
    found = []
    for scale, (height, width), stride in zip(scales, shapes, strides, strict=True):
        for row in range(0, height, anchor_stride):
            for column in range(0, width, anchor_stride):
                for ratio in ratios:
                    h, w = scale / math.sqrt(ratio), scale * math.sqrt(ratio)
                    y, x = row * stride, column * stride
                    found.append((y - h / 2, x - w / 2, y + h / 2, x + w / 2))
    return np.array(found)


def test_anchors_by_hand():
    found = anchors.generate_anchors(8, [0.25, 1], (1, 2), 4, 1)
    expected = [(-8, -2, 8, 2), (-4, -4, 4, 4), (-8, 2, 8, 6), (-4, 0, 4, 8)]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("anchor_stride", [1, 2])
def test_pyramid_order_is_level_row_column_ratio(anchor_stride):
    shapes, strides = [(5, 7), (3, 4)], [4, 8]
    found = anchors.generate_pyramid_anchors((8, 16), (0.5, 1, 2), shapes, strides, anchor_stride)
    np.testing.assert_allclose(found, loop_anchors((8, 16), (0.5, 1, 2), shapes, strides, anchor_stride))


def test_backbone_shapes_round_up():
    found = anchors.compute_backbone_shapes(SmallConfig(), (100, 130, 3))
    assert found.tolist() == [[25, 33], [13, 17], [7, 9], [4, 5], [2, 3]]


def test_callable_backbone_gives_its_own_shapes():
    class Custom(SmallConfig):
        BACKBONE_STRIDES = [4, 8]
        RPN_ANCHOR_SCALES = (8, 16)

        def BACKBONE(self, *args):
            raise AssertionError("only the shapes are needed")

        def COMPUTE_BACKBONE_SHAPE(self, image_shape):
            return [(image_shape[0] // 4, 3), (2, 1)]

    assert anchors.compute_backbone_shapes(Custom(), (40, 40)).tolist() == [[10, 3], [2, 1]]
    assert anchors.pyramid_anchors(Custom(), (40, 40)).shape == ((30 + 2) * 3, 4)


def test_pyramid_anchors_follow_the_configuration_not_the_cache():
    config = SmallConfig()
    first = anchors.pyramid_anchors(config, (128, 128, 3))
    assert anchors.pyramid_anchors(config, np.array([128, 128, 3])) is first
    config.RPN_ANCHOR_SCALES = (16, 32, 64, 128, 256)
    second = anchors.pyramid_anchors(config, (128, 128, 3))
    np.testing.assert_allclose(second[:, 2:] - second[:, :2], 2 * (first[:, 2:] - first[:, :2]))
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


def test_grid_shapes_add_up():
    config = SmallConfig()
    config.RPN_ANCHOR_STRIDE = 2
    grids = anchors.anchor_grid_shapes(config, (128, 192, 3))
    assert grids[0] == (16, 24, 3) and grids[-1] == (1, 2, 3)
    assert sum(math.prod(grid) for grid in grids) == len(anchors.pyramid_anchors(config, (128, 192, 3)))


def test_normalized_anchors():
    config = SmallConfig()
    found = anchors.normalized_anchors(config, (64, 128, 3))
    y1, x1, y2, x2 = anchors.pyramid_anchors(config, (64, 128, 3)).T
    expected = np.stack([y1 / 63, x1 / 127, (y2 - 1) / 63, (x2 - 1) / 127], axis=1)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_anchors_of_a_large_image_take_the_memory_of_the_result():
    tracemalloc.start()
    found = anchors.normalized_anchors(SmallConfig(), (4096, 2048))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.dtype == np.float32 and len(found) == 3 * sum(2048 * 4096 // 4**level for level in range(2, 7))
    assert peak < 1.1 * found.nbytes
