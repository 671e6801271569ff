"""RoIAlign and crop-and-resize: both kernels against a bilinear loop."""

import keras
import numpy as np
import pytest
from keras import ops

from mrcnn import roi_align

pytestmark = pytest.mark.backend
KERNELS = ["tensorflow", "ops"] if keras.backend.backend() == "tensorflow" else ["ops"]


def sample(image, y, x):
    """Bilinear value of `[H, W, C]` at one point; zeros outside."""
    height, width, channels = image.shape
    if not (0 <= y <= height - 1 and 0 <= x <= width - 1):
        return np.zeros(channels)
    row, col = int(y), int(x)
    below, right = min(row + 1, height - 1), min(col + 1, width - 1)
    dy, dx = y - row, x - col
    top = image[row, col] * (1 - dx) + image[row, right] * dx
    bottom = image[below, col] * (1 - dx) + image[below, right] * dx
    return top * (1 - dy) + bottom * dy


def loop_crop(image, box, size):
    """One box cut out of one image, a point at a time."""
    y1, x1, y2, x2 = (float(side) for side in box)
    height, width, channels = image.shape
    crop = np.zeros((*size, channels))
    for i in range(size[0]):
        for j in range(size[1]):
            y = (y1 + (y2 - y1) * i / (size[0] - 1)) if size[0] > 1 else (y1 + y2) / 2
            x = (x1 + (x2 - x1) * j / (size[1] - 1)) if size[1] > 1 else (x1 + x2) / 2
            crop[i, j] = sample(image, y * (height - 1), x * (width - 1))
    return crop


BOXES = np.array(
    [
        [0.1, 0.2, 0.7, 0.9],
        [0.33, 0.31, 0.36, 0.37],  # within a cell
        [-0.2, 0.4, 0.4, 1.3],  # partly outside
        [1.2, 1.2, 1.5, 1.5],  # outside
        [0.5, 0.25, 0.5, 0.25],  # a point
        [0.9, 0.8, 0.2, 0.1],  # upside down: mirrored
    ],
    np.float32,
)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("size", [(5, 4), (1, 3)])
def test_crop_and_resize(compiled, kernel, size):
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (2, 9, 11, 3)).astype(np.float32)
    which = np.array([0, 1, 0, 1, 0, 1], np.int32)
    crop = compiled(lambda *inputs: roi_align.crop_and_resize(*inputs, size, kernel))
    crops = crop(*map(ops.convert_to_tensor, (images, BOXES, which)))
    expected = [loop_crop(images[i], box, size) for i, box in zip(which, BOXES, strict=True)]
    np.testing.assert_allclose(ops.convert_to_numpy(crops), expected, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_crop_of_the_whole_image_is_the_image(compiled, kernel):
    images = np.random.default_rng(1).uniform(size=(1, 9, 9, 2)).astype(np.float32)
    box, which = np.array([[0, 0, 1, 1]], np.float32), np.zeros(1, np.int32)
    crop = compiled(lambda *inputs: roi_align.crop_and_resize(*inputs, (9, 9), kernel))
    crops = crop(*map(ops.convert_to_tensor, (images, box, which)))
    np.testing.assert_allclose(ops.convert_to_numpy(crops), images, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("side", "samples"), [(56, 28), (57, 14)])
def test_the_last_row_is_not_lost_to_rounding(compiled, kernel, side, samples):
    step = np.float32(side - 1) / np.float32(samples - 1)
    assert np.float32(samples - 1) * step > side - 1, "the last point is rounded out of the map"
    box, which = np.array([[0, 0, 1, 1]], np.float32), np.zeros(1, np.int32)
    crop = compiled(lambda *inputs: roi_align.crop_and_resize(*inputs, (samples, samples), kernel))
    crops = crop(*map(ops.convert_to_tensor, (np.ones((1, side, side, 1), np.float32), box, which)))
    np.testing.assert_allclose(ops.convert_to_numpy(crops), 1, atol=1e-5)


def loop_level(box, image_side):
    """Lin et al. 2017, equation 1, rounded, from P2 to P5."""
    y1, x1, y2, x2 = (float(side) * image_side for side in box)
    area = (y2 - y1) * (x2 - x1)
    return int(np.clip(4 + np.round(np.log2(np.sqrt(area) / 224)), 2, 5)) if area > 0 else 2


def rois_of_all_levels():
    """RoIs `[2, 6, 4]` in an image of 512 x 512 pixels: sides of 20 to 500 pixels, padding, one partly outside."""
    sides = np.array([20, 60, 120, 250, 500]) / 512
    rois = np.zeros((2, 6, 4), np.float32)
    for image, shift in enumerate((0.01, 0.02)):
        rois[image, :5] = np.stack([0 * sides + shift, 0 * sides, shift + 0.8 * sides, sides * 1.2], axis=-1)
    return rois


def pyramid(rng, channels=3):
    return [rng.uniform(-1, 1, (2, side, side, channels)).astype(np.float32) for side in (32, 16, 8, 4)]


@pytest.fixture
def pool(compiled):
    """Returns a function that pools 3 x 3 features of RoIs in an image of 512 x 512 pixels, NumPy in and out."""

    def call(features, rois, kernel):
        align = compiled(lambda rois, *levels: roi_align.pyramid_roi_align(levels, rois, 512 * 512, 3, kernel))
        return ops.convert_to_numpy(align(*map(ops.convert_to_tensor, (rois, *features))))

    return call


def test_levels():
    rois = rois_of_all_levels()
    levels = ops.convert_to_numpy(roi_align.roi_levels(ops.convert_to_tensor(rois), 512 * 512))
    expected = [[loop_level(box, 512) - 2 for box in image] for image in rois]
    assert levels.tolist() == expected
    assert set(levels.ravel()) == {0, 1, 2, 3}


@pytest.mark.parametrize("kernel", KERNELS)
def test_rois_without_numbers_do_not_stop_the_network(pool, kernel):
    rois = np.full((2, 6, 4), np.nan, np.float32)
    rois[0, 0] = [0.1, 0.1, 0.5, 0.5]
    pooled = pool(pyramid(np.random.default_rng(2)), rois, kernel)
    assert pooled.shape == (2, 6, 3, 3, 3)
    assert np.isfinite(pooled[0, 0]).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_pyramid_roi_align(pool, kernel):
    features, rois = pyramid(np.random.default_rng(2)), rois_of_all_levels()
    pooled = pool(features, rois, kernel)
    expected = [
        [loop_crop(features[loop_level(box, 512) - 2][image], box, (3, 3)) for box in rois[image]] for image in (0, 1)
    ]
    np.testing.assert_allclose(pooled, expected, atol=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_four_points_of_a_cell_are_averaged(compiled, kernel):
    """Points at a quarter and three quarters of each cell's sides (He et al. 2017, figure 3)."""
    features, rois = pyramid(np.random.default_rng(2)), rois_of_all_levels()
    align = compiled(lambda rois, *levels: roi_align.pyramid_roi_align(levels, rois, 512 * 512, 3, kernel, samples=2))
    pooled = ops.convert_to_numpy(align(*map(ops.convert_to_tensor, (rois, *features))))
    shares = (np.arange(6) + 0.5) / 6
    for image in (0, 1):
        for box, cells in zip(rois[image], pooled[image], strict=True):
            level = features[loop_level(box, 512) - 2][image]
            y1, x1, y2, x2 = box
            points = [
                [loop_crop(level, (y, x, y, x), (1, 1))[0, 0] for x in x1 + shares * (x2 - x1)]
                for y in y1 + shares * (y2 - y1)
            ]
            expected = np.reshape(points, (3, 2, 3, 2, -1)).mean(axis=(1, 3))
            np.testing.assert_allclose(cells, expected, atol=1e-4)


def test_both_kernels_have_the_same_gradient(only_tensorflow):
    import tensorflow as tf

    rng = np.random.default_rng(3)
    features = [tf.Variable(level) for level in pyramid(rng)]
    rois = tf.constant(rois_of_all_levels())
    weights = tf.constant(rng.normal(size=(2, 6, 3, 3, 3)).astype(np.float32))
    gradients = []
    for kernel in ("tensorflow", "ops"):
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(weights * roi_align.pyramid_roi_align(features, rois, 512 * 512, 3, kernel))
        gradients.append([tf.convert_to_tensor(g).numpy() for g in tape.gradient(value, features)])
    for ours, theirs in zip(*gradients, strict=True):
        assert np.abs(theirs).max() > 0.1
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("samples", [1, 2])
def test_aligned_rois_read_the_places_that_they_cover(compiled, kernel, samples):
    """Maps that hold the pixel coordinates of their cells' middles: a pooled cell is the middle of its part."""
    height, width, pool = 192, 128, 4
    maps = []
    for stride in (4, 8):
        y, x = np.meshgrid(*((np.arange(side // stride) + 0.5) * stride for side in (height, width)), indexing="ij")
        maps.append(np.stack([y, x], axis=-1)[None].astype(np.float32))
    # Pixels y1, x1, y2, x2, of which the last are not included; at the corners, in the middle, small and large.
    pixels = np.array([[8, 8, 40, 40], [150, 90, 180, 122], [61, 31, 74, 52], [20, 10, 180, 122], [0, 0, 192, 128]])
    rois = (pixels - [0, 0, 1, 1]) / np.array([height - 1, width - 1] * 2)
    align = compiled(
        lambda fine, coarse, rois: roi_align.pyramid_roi_align(
            [fine, coarse], rois, height * width, pool, kernel, samples, image_shape=(height, width)
        )
    )
    inputs = (*maps, rois[None].astype(np.float32))
    pooled = ops.convert_to_numpy(align(*map(ops.convert_to_tensor, inputs)))[0]
    parts = (np.arange(pool) + 0.5) / pool
    for (y1, x1, y2, x2), cells in zip(pixels, pooled, strict=True):
        expected = np.meshgrid(y1 + parts * (y2 - y1), x1 + parts * (x2 - x1), indexing="ij")
        np.testing.assert_allclose(cells, np.stack(expected, axis=-1), atol=1e-3)


@pytest.mark.parametrize("kernel", KERNELS)
def test_aligned_rois_at_the_edge_read_the_outermost_cells(compiled, kernel):
    features = np.arange(1.0, 65).reshape(1, 8, 8, 1).astype(np.float32)
    roi = np.array([[[0, 0, 1 / 31, 1 / 31]]], np.float32)  # two pixels of 32
    align = compiled(lambda *inputs: roi_align.pyramid_roi_align([inputs[0]], inputs[1], 1024, 2, kernel, 1, (32, 32)))
    pooled = align(*map(ops.convert_to_tensor, (features, roi)))
    np.testing.assert_allclose(ops.convert_to_numpy(pooled).ravel(), features[0, 0, 0, 0], atol=1e-5)
