"""Morphological active contours against scikit-image's, and what they are for."""

import cv2
import numpy as np
import pytest
from skimage.segmentation import morphsnakes

from nucleus.models.classical.contours import chan_vese, edge_stopping, geodesic


@pytest.fixture
def blobs():
    """Smooth random shapes away from the image's edge, and a mask around the brightest of them."""
    rng = np.random.default_rng(3)
    levels = cv2.GaussianBlur(rng.random((120, 120)).astype(np.float32), (0, 0), 5)
    levels = cv2.normalize(levels, None, 0, 1, cv2.NORM_MINMAX)
    y, x = np.mgrid[:120, :120]
    levels *= ((y - 60) ** 2 + (x - 60) ** 2 < 45**2).astype(np.float32)
    return levels, levels > 0.6


@pytest.fixture
def fresh_turns(monkeypatch):
    """Starts scikit-image's two smoothing operators, which take turns for ever, at the first."""
    operators = [
        lambda u: morphsnakes.sup_inf(morphsnakes.inf_sup(u)),
        lambda u: morphsnakes.inf_sup(morphsnakes.sup_inf(u)),
    ]
    monkeypatch.setattr(morphsnakes, "_curvop", morphsnakes._fcycle(operators))


@pytest.mark.parametrize(("iterations", "smoothing"), [(0, 1), (1, 1), (8, 1), (9, 2), (40, 1), (41, 1)])
def test_chan_vese_is_scikit_images(blobs, fresh_turns, iterations, smoothing):
    levels, mask = blobs
    expected = morphsnakes.morphological_chan_vese(levels, iterations, mask, smoothing=smoothing)
    found = chan_vese(levels, mask, iterations, smoothing)
    assert found.dtype == bool and np.array_equal(found, expected)
    assert iterations == 0 or not np.array_equal(found, mask)


@pytest.mark.parametrize("balloon", [-1, 0, 1])
@pytest.mark.parametrize(("iterations", "smoothing"), [(1, 1), (8, 0), (15, 2)])
def test_geodesic_is_scikit_images(blobs, fresh_turns, iterations, smoothing, balloon):
    levels, mask = blobs
    stopping = edge_stopping(levels, 1.5, 100)
    expected = morphsnakes.morphological_geodesic_active_contour(
        stopping, iterations, mask, smoothing=smoothing, threshold=0.5, balloon=balloon
    )
    found = geodesic(stopping, mask, iterations, smoothing, balloon, threshold=0.5)
    assert np.array_equal(found, expected) and not np.array_equal(found, mask)


def test_edges_stop(blobs):
    step = np.zeros((20, 30), np.float32)
    step[:, 15:] = 1
    stopping = edge_stopping(step, 1, 100)
    assert np.allclose(stopping[:, :10], 1) and stopping[:, 14:16].max() < 0.3


def test_local_means_keep_a_dim_nucleus_beside_a_bright_one():
    levels = np.zeros((40, 80), np.float32)
    dim, bright = np.zeros(levels.shape, bool), np.zeros(levels.shape, bool)
    dim[12:28, 10:26], bright[12:28, 54:70] = True, True
    levels[dim], levels[bright] = 0.3, 1.5
    begin = levels > 0.25
    assert not chan_vese(levels, begin, 10)[dim].any(), "below half-way between the means of the image"
    kept = chan_vese(levels, begin, 10, window=21)
    assert kept[dim].mean() > 0.95 and kept[bright].mean() > 0.95 and not kept[~(dim | bright)].any()


def test_what_the_edge_cuts_is_not_eaten_from_there():
    levels = np.zeros((30, 30), np.float32)
    levels[:15] = 1
    assert np.array_equal(chan_vese(levels, levels > 0.5, 20), levels > 0.5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2)])
def test_tiny_images(shape):
    levels = np.random.default_rng(0).random(shape).astype(np.float32)
    assert chan_vese(levels, levels > 0.5, 3, window=3).shape == shape
    assert geodesic(edge_stopping(levels, 1, 10), levels > 0.5, 3, balloon=1).shape == shape
