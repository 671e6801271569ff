"""Protects the pictures of the network's inside: what is drawn, and where."""

import keras
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.patches import Rectangle

from mrcnn.config import Config
from mrcnn.inspection import display_activations, draw_rpn_targets, plot_weight_histograms


@pytest.fixture(autouse=True)
def agg():
    backend = plt.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(backend)


def extent(rectangle):
    """(y1, x1, y2, x2) of a drawn rectangle."""
    x, y = rectangle.get_xy()
    return [y, x, y + rectangle.get_height(), x + rectangle.get_width()]


def test_rpn_targets_are_drawn_where_they_lead():
    image = np.zeros((100, 100, 3), np.uint8)
    anchors = np.array([[10, 10, 30, 30], [0, 0, 8, 8], [50, 50, 90, 70], [60, 10, 70, 20]], float)
    match = np.array([[1], [0], [1], [-1]])
    # Down by a tenth of the height; twice as wide. In units of RPN_BBOX_STD_DEV, padded as the targets are.
    deltas = np.array([[0.1, 0, 0, 0], [0, 0, 0, np.log(2)], [0, 0, 0, 0]]) / Config.RPN_BBOX_STD_DEV
    draw_rpn_targets(image, anchors, match, deltas, Config())
    boxes = [patch for patch in plt.gca().patches if isinstance(patch, Rectangle)]
    solid = [extent(box) for box in boxes if box.get_linestyle() in ("-", "solid")]
    dotted = [extent(box) for box in boxes if box.get_linestyle() not in ("-", "solid")]
    np.testing.assert_allclose(solid, [[12, 10, 32, 30], [50, 40, 90, 80]], atol=1)
    np.testing.assert_allclose(sorted(dotted), sorted(anchors[[3, 0, 2]].tolist()))
    assert plt.gca().get_title() == "2 positive (coloured), 1 negative (grey) of 4 anchors"


def test_activations_show_the_most_varied_channels_stretched():
    values = np.zeros((4, 40, 3), np.float32)
    values[:, 20:, 1] = 5
    values[:, :10, 2] = -100
    display_activations({"some_layer": values}, channels=2)
    (ax,) = plt.gcf().axes
    shown = ax.images[0].get_array()
    assert ax.get_title(loc="left") == "some_layer (4 x 40 x 3), channels 2, 1"
    first, gap, second = shown[:, :40], shown[:, 40:41], shown[:, 41:]
    np.testing.assert_array_equal(first, (values[:, :, 2] + 100) / 100)
    np.testing.assert_array_equal(second, values[:, :, 1] / 5)
    assert gap.mask.all() and not first.mask.any()


def test_constant_channel_is_black():
    display_activations({"dead": np.full((4, 40, 1), 7.0)}, channels=3)
    np.testing.assert_array_equal(plt.gca().images[0].get_array(), np.zeros((4, 40)))


@pytest.fixture
def network():
    """A network with a layer without weights, a kernel of zeros, and a nested network with 600 evenly spread values."""
    rpn = keras.Sequential([keras.Input((2,)), keras.layers.Dense(300, name="rpn")], name="nested")
    rpn.get_layer("rpn").set_weights([np.linspace(-1, 1, 600).reshape(2, 300), np.full(300, 9.0)])
    conv = keras.layers.Dense(2, kernel_initializer="zeros", name="conv")
    return keras.Sequential([keras.Input((3,)), keras.layers.ReLU(name="relu"), conv, rpn])


def test_weight_histograms_count_every_value_of_the_kernel(network):
    plot_weight_histograms(network, ["conv", "rpn"], columns=2)
    first, second = plt.gcf().axes
    assert first.get_title().startswith("conv\nmean +0.000, std 0.000")
    outline = second.patches[0].get_xy()
    assert outline[:, 0].min() == -1 and outline[:, 0].max() == 1
    np.testing.assert_allclose(outline[:, 1].max(), 10, atol=1)  # 600 values in 60 bins.


def test_weight_histograms_name_a_missing_layer(network):
    with pytest.raises(ValueError, match="no_such"):
        plot_weight_histograms(network, ["conv", "no_such"])
