"""Protects the pictures: what is drawn, where, and that nothing needs a screen."""

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Polygon, Rectangle

from mrcnn import visualize

NAMES = ["BG", "cell", "speck"]


@pytest.fixture(autouse=True)
def agg():
    backend = matplotlib.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(backend)


@pytest.fixture
def scene():
    """An image with two instances, the second at the image's corner."""
    image = np.full((60, 80, 3), 100, np.uint8)
    masks = np.zeros((60, 80, 2), bool)
    masks[10:20, 30:50, 0] = True
    masks[50:60, 70:80, 1] = True
    return image, np.array([[10, 30, 20, 50], [50, 70, 60, 80]]), masks, np.array([1, 2])


def drawn(ax, kind):
    return [patch for patch in ax.patches if isinstance(patch, kind)]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def extent(rectangle):
    """(y1, x1, y2, x2) of a drawn rectangle."""
    x, y = rectangle.get_xy()
    return [y, x, y + rectangle.get_height(), x + rectangle.get_width()]


def test_display_instances_draws_each_instance(scene):
    image, boxes, masks, class_ids = scene
    before = image.copy()
    visualize.display_instances(
        image, boxes, masks, class_ids, NAMES, scores=np.array([0.75, 0.5]), title="T", colors=["red", "lime"]
    )
    ax = plt.gca()
    np.testing.assert_array_equal(image, before)
    assert [extent(box) for box in drawn(ax, Rectangle)] == boxes.tolist()
    assert texts(ax) == ["cell 0.750", "speck 0.500"]
    assert ax.get_title() == "T"
    shown = ax.images[0].get_array()
    assert shown[15, 40].tolist() == [177, 50, 50]
    assert shown[55, 75].tolist() == [50, 177, 50]
    assert (shown[~masks.any(axis=-1)] == 100).all()
    outlines = [polygon.get_xy() for polygon in drawn(ax, Polygon)]
    # Half a pixel around the outermost pixel centres, closed at the image's border too.
    np.testing.assert_allclose(outlines[0].min(axis=0), [29.5, 9.5])
    np.testing.assert_allclose(outlines[0].max(axis=0), [49.5, 19.5])
    np.testing.assert_allclose(outlines[1].max(axis=0), [79.5, 59.5])


def test_display_instances_leaves_out_what_is_switched_off(scene):
    image, boxes, masks, class_ids = scene
    boxes[1] = 0
    _, ax = plt.subplots()
    visualize.display_instances(
        image, boxes, masks, class_ids, NAMES, ax=ax, show_mask=False, show_bbox=False, captions=["a", "b"]
    )
    assert drawn(ax, Rectangle) == []
    assert len(drawn(ax, Polygon)) == 1
    assert texts(ax) == ["a"]
    np.testing.assert_array_equal(ax.images[0].get_array(), image)


def test_display_instances_without_instances(scene, capsys):
    visualize.display_instances(scene[0], np.zeros((0, 4), int), scene[2][..., :0], np.zeros(0, int), NAMES)
    assert "No instances" in capsys.readouterr().out
    assert len(plt.gca().images) == 1


def test_display_instances_refuses_unequal_counts(scene):
    image, boxes, masks, class_ids = scene
    with pytest.raises(ValueError, match="2 boxes, 1 masks, 2 classes"):
        visualize.display_instances(image, boxes, masks[..., :1], class_ids, NAMES)


def test_only_figures_of_its_own_are_shown(scene, monkeypatch):
    image, boxes, masks, class_ids = scene
    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.append(True))
    visualize.display_instances(image, boxes, masks, class_ids, NAMES)
    assert shown == []  # Agg has no screen.
    monkeypatch.setattr(matplotlib, "get_backend", lambda: "TkAgg")
    visualize.display_instances(image, boxes, masks, class_ids, NAMES, ax=plt.gca())
    assert shown == []
    visualize.display_instances(image, boxes, masks, class_ids, NAMES)
    visualize.display_images([image])
    assert shown == [True, True]


def test_display_differences_pairs_scores_with_overlaps(scene):
    image, boxes, masks, class_ids = scene
    # The better prediction comes second; a row of zeros pads both sides.
    shifted = np.roll(masks, 4, axis=0)[..., :1]
    pred_masks = np.concatenate([shifted, masks[..., 1:], masks[..., :1] & False], axis=-1)
    pred_boxes = np.array([[14, 30, 24, 50], [50, 70, 60, 80], [0, 0, 0, 0]])
    padded_boxes = np.concatenate([boxes, [[0, 0, 0, 0]]])
    _, ax = plt.subplots()
    visualize.display_differences(
        image,
        padded_boxes,
        np.append(class_ids, 0),
        np.concatenate([masks, masks[..., :1] & False], axis=-1),
        pred_boxes,
        np.append(class_ids, 0),
        np.array([0.6, 0.9, 0]),
        pred_masks,
        NAMES,
        ax=ax,
    )
    # 6 of 10 rows are common: IoU 6 / 14.
    assert texts(ax) == ["", "", "0.90 / 1.00", "0.60 / 0.43"]
    colors = [to_rgb(box.get_edgecolor()) for box in drawn(ax, Rectangle)]
    assert colors == [(0, 1, 0)] * 2 + [(1, 0, 0)] * 2
    assert "GT=green" in ax.get_title()


def test_display_differences_without_ground_truth(scene):
    image, boxes, masks, class_ids = scene
    _, ax = plt.subplots()
    visualize.display_differences(
        image, boxes[:0], class_ids[:0], masks[..., :0], boxes, class_ids, np.ones(2), masks, NAMES, ax=ax
    )
    assert texts(ax) == ["1.00 / 0.00"] * 2


def test_apply_mask_tints_in_place():
    image = np.full((2, 2, 3), 200, np.uint8)
    mask = np.array([[1, 0], [0, 1]])
    assert visualize.apply_mask(image, mask, (1, 0, 0), alpha=0.25) is image
    assert image[0, 0].tolist() == [213, 150, 150] and image[0, 1].tolist() == [200] * 3


@pytest.mark.parametrize(("bright", "value"), [(True, 1.0), (False, 0.7)])
def test_random_colors_are_distinct(bright, value):
    colors = visualize.random_colors(12, bright)
    assert len(set(colors)) == 12
    assert {max(color) for color in colors} == {value}
    assert visualize.random_colors(0) == []


def test_display_images_makes_a_grid():
    images = [np.full((4, 5, 3), i) for i in range(5)] + [np.zeros((4, 5))]
    visualize.display_images(images, titles=list("abcdef"), cols=3, cmap="Blues")
    axes = plt.gcf().axes
    assert [ax.get_title() for ax in axes] == list("abcdef")
    assert [int(ax.images[0].get_array().max()) for ax in axes] == [0, 1, 2, 3, 4, 0]
    assert axes[0].get_gridspec().get_geometry() == (2, 3)
    assert axes[5].images[0].get_cmap().name == "Blues"


def test_draw_rois_shows_mask_and_refinement_of_positives(capsys):
    image = np.zeros((60, 80, 3), np.uint8)
    rois = np.array([[10, 10, 30, 30], [40, 40, 50, 50]], float)
    refined = rois + 2
    mask = np.ones((2, 28, 28), np.float32)
    visualize.draw_rois(image, rois, refined, mask, np.array([1, 0]), NAMES)
    ax = plt.gca()
    assert [extent(box) for box in drawn(ax, Rectangle)] == [
        rois[0].tolist(),
        refined[0].tolist(),
        rois[1].tolist(),
    ]
    assert texts(ax) == ["cell"]
    shown = np.asarray(ax.images[0].get_array()).any(axis=-1)
    assert shown[12:28, 12:28].all() and not shown[:, 31:].any()
    assert "Positive Ratio: 0.50" in capsys.readouterr().out


def test_draw_rois_limits_their_number():
    rois = np.tile([5, 5, 9, 9], (30, 1))
    visualize.draw_rois(
        np.zeros((20, 20, 3), np.uint8), rois, rois, np.zeros((30, 28, 28)), np.zeros(30, int), NAMES, limit=7
    )
    assert len(drawn(plt.gca(), Rectangle)) == 7
    assert plt.gca().get_title() == "Showing 7 random ROIs out of 30"


def test_draw_box_changes_only_the_frame():
    image = np.zeros((40, 40, 3), np.uint8)
    result = visualize.draw_box(image, np.array([10, 12, 30, 35]), [255, 0, 7])
    assert result[10, 20].tolist() == result[20, 12].tolist() == [255, 0, 7]
    assert not result[14:26, 16:31].any() and not result[:8].any()
    assert image.any()


def test_draw_box_draws_into_a_mirrored_view():
    image = np.zeros((40, 40, 3), np.uint8)
    view = image[:, ::-1]
    expected = visualize.draw_box(np.zeros_like(image), [10, 12, 30, 35], [255, 0, 7])
    assert visualize.draw_box(view, [10, 12, 30, 35], [255, 0, 7]) is view
    np.testing.assert_array_equal(image, expected[:, ::-1])


def test_display_top_masks_orders_classes_by_area(scene):
    image, _, masks, class_ids = scene
    visualize.display_top_masks(image, masks, class_ids, NAMES, limit=3)
    axes = plt.gcf().axes
    assert [ax.get_title() for ax in axes] == ["H x W=60x80", "cell", "speck", "-"]
    for ax, mask in zip(axes[1:3], np.moveaxis(masks, -1, 0), strict=True):
        np.testing.assert_array_equal(np.asarray(ax.images[0].get_array()) > 0, mask)
    assert not np.asarray(axes[3].images[0].get_array()).any()


def test_plot_precision_recall():
    visualize.plot_precision_recall(0.5, [1, 0.5, 0], [0, 0.5, 1])
    line = plt.gca().lines[0]
    np.testing.assert_array_equal(line.get_xdata(), [0, 0.5, 1])
    np.testing.assert_array_equal(line.get_ydata(), [1, 0.5, 0])
    assert plt.gca().get_title().endswith("0.500")


def test_plot_overlaps_marks_matches():
    overlaps = np.array([[0.8, 0.0], [0.1, 0.6]])
    visualize.plot_overlaps(np.array([1, 2, 0]), np.array([1, 1, 0]), np.array([0.9, 0.7, 0]), overlaps, NAMES)
    ax = plt.gca()
    assert texts(ax) == ["0.800\nmatch", "0.000\n", "0.100\n", "0.600\nwrong"]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["cell", "speck"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["cell (0.90)", "cell (0.70)"]


def test_draw_boxes_with_everything(scene):
    image, boxes, masks, _ = scene
    boxes = np.concatenate([boxes, [[0, 0, 0, 0]]])
    masks = np.concatenate([masks, masks[..., :1]], axis=-1)
    visualize.draw_boxes(
        image,
        boxes,
        refined_boxes=boxes + 3,
        masks=masks,
        captions=["a", "b", "c"],
        visibilities=[2, 0, 1],
        title="T",
    )
    ax = plt.gca()
    rectangles = drawn(ax, Rectangle)
    assert [extent(box) for box in rectangles] == [
        boxes[0].tolist(),
        (boxes[0] + 3).tolist(),
        boxes[1].tolist(),
    ]
    assert [box.get_linestyle() for box in rectangles] == ["solid", "solid", "dotted"]
    assert [text.get_position() for text in ax.texts] == [(33, 13), (70, 50)]
    assert len(ax.lines) == 1 and len(drawn(ax, Polygon)) == 2
    shown = np.asarray(ax.images[0].get_array())
    np.testing.assert_array_equal((shown != 100).any(axis=-1), masks.any(axis=-1))


def test_draw_boxes_needs_boxes():
    visualize.draw_boxes(np.zeros((9, 9, 3), np.uint8), refined_boxes=np.array([[1.0, 2, 3, 4]]))
    assert [extent(box) for box in drawn(plt.gca(), Rectangle)] == [[1, 2, 3, 4]]
    with pytest.raises(ValueError, match="neither"):
        visualize.draw_boxes(np.zeros((9, 9, 3), np.uint8))


@pytest.mark.parametrize("channels", [0, 1, 4])
def test_images_that_are_not_rgb_are_drawn(scene, channels):
    """Grey images, with and without an axis of channels, and RGBA."""
    _, boxes, masks, class_ids = scene
    image = np.full((60, 80, channels) if channels else (60, 80), 100, np.uint8)
    before = image.copy()
    visualize.display_instances(image, boxes, masks, class_ids, NAMES, colors=["red", "lime"])
    shown = plt.gca().images[0].get_array()
    assert shown[15, 40].tolist() == [177, 50, 50, 100][: max(3, channels)]
    visualize.draw_boxes(image, boxes, masks=masks)
    scores = np.array([0.9, 0.8])
    truth = boxes, class_ids, masks
    visualize.display_differences(image, *truth, boxes, class_ids, scores, masks, NAMES, ax=plt.gca())
    visualize.display_top_masks(image, masks, class_ids, NAMES)
    visualize.draw_rois(image, boxes, boxes, np.ones((2, 28, 28)), class_ids, NAMES)
    np.testing.assert_array_equal(image, before)


def test_images_of_other_channels_are_refused_by_their_shape(scene):
    _, boxes, masks, class_ids = scene
    with pytest.raises(ValueError, match=r"1 \(grey\), 3 \(RGB\) or 4 \(RGBA\).*Received: shape \(60, 80, 2\)"):
        visualize.display_instances(np.zeros((60, 80, 2)), boxes, masks, class_ids, NAMES)
    with pytest.raises(ValueError, match=r"Received: shape \(60, 80, 5\)"):
        visualize.display_top_masks(np.zeros((60, 80, 5)), masks, class_ids, NAMES)
    with pytest.raises(ValueError, match=r"Received: shape \(0, 80, 3\)"):
        visualize.display_images([np.zeros((0, 80, 3))])
    with pytest.raises(ValueError, match=r"Received: shape \(60, 80\)"):
        visualize.apply_mask(np.zeros((60, 80)), masks[..., 0], "red")


def test_apply_mask_tints_what_channels_there_are():
    mask = np.ones((1, 1), bool)
    grey, five = np.full((1, 1, 1), 100, np.uint8), np.full((1, 1, 5), 100, np.uint8)
    assert visualize.apply_mask(grey, mask, "red")[0, 0].tolist() == [int(50 + 0.5 * 0.299 * 255)]
    assert visualize.apply_mask(five, mask, "red")[0, 0].tolist() == [177, 50, 50, 100, 100]


@pytest.mark.parametrize(("channels", "expected"), [(0, 76), (1, [76]), (4, [255, 0, 0, 9]), (6, [255, 0, 0, 9, 9, 9])])
def test_draw_box_leaves_other_channels_alone(channels, expected):
    image = np.full((20, 20, channels) if channels else (20, 20), 9, np.uint8)
    assert visualize.draw_box(image, (5, 5, 12, 12), (255, 0, 0)) is image
    assert image[5, 8].tolist() == expected
    assert (image[9, 9] == 9).all()
