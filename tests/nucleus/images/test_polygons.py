"""Outlines of label images are valid polygons and lose no pixel."""

import numpy as np
import pytest
import shapely
from skimage.draw import ellipse, polygon2mask

import nucleus
from nucleus.images.polygons import fill, fill_all, fill_ellipse, signed_area, trace


def as_shapely(polygons):
    return shapely.MultiPolygon([shapely.Polygon(rings[0], rings[1:]) for rings in polygons])


def filled(outlines, shape):
    labels = np.zeros(shape, np.int32)
    for number, polygons in enumerate(outlines, start=1):
        pixels = fill_all(polygons, shape)
        assert not labels.ravel()[pixels].any(), "outlines of two labels overlap"
        labels.ravel()[pixels] = number
    return labels


def test_random_labels_of_every_topology_are_valid_polygons_and_come_back():
    # Few values on few pixels: holes in holes, corners that touch, pieces, single pixels, the whole edge.
    rng = np.random.default_rng(0)
    for _ in range(300):
        shape = tuple(rng.integers(1, 14, 2))
        labels = rng.integers(0, rng.integers(2, 5), shape).astype(np.int32)
        outlines = trace(labels)
        assert len(outlines) == labels.max()
        for number, polygons in enumerate(outlines, start=1):
            geometry = as_shapely(polygons)
            assert geometry.is_valid, shapely.is_valid_reason(geometry)
            assert geometry.area == np.count_nonzero(labels == number)
            for rings in polygons:
                assert signed_area(rings[0]) > 0 and all(signed_area(hole) < 0 for hole in rings[1:])
        np.testing.assert_array_equal(filled(outlines, shape), labels)


def test_shipped_label_images_come_back():
    dataset = nucleus.NucleusDataset()
    dataset.load_nucleus(nucleus.shipped_data(), "val")
    for index in range(len(dataset.image_info)):
        labels, _ = dataset.load_labels(index)
        np.testing.assert_array_equal(filled(trace(labels), labels.shape), labels)


def test_a_nucleus_with_a_hole_and_one_in_two_pieces():
    labels = np.zeros((9, 12), np.int32)
    labels[1:6, 1:6] = 1
    labels[2:4, 2:4] = 0
    labels[7, 8], labels[8, 9] = 3, 3
    (with_hole,), none, pieces = trace(labels)
    assert [ring.tolist() for ring in with_hole] == [
        [[1, 1], [6, 1], [6, 6], [1, 6]],
        [[4, 2], [2, 2], [2, 4], [4, 4]],
    ] or as_shapely([with_hole]).area == 21
    assert none == [] and len(pieces) == 2


def test_polygons_are_filled_as_pixel_centres_say():
    rng = np.random.default_rng(1)
    shape = (40, 50)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    for _ in range(20):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
        radii = rng.uniform(5, 30, 12)
        ring = np.stack([25 + radii * np.cos(angles), 20 + radii * np.sin(angles)], axis=1)
        expected = shapely.contains_xy(shapely.Polygon(ring), x, y)
        found = np.zeros(shape, bool)
        found.ravel()[fill([ring], shape)] = True
        np.testing.assert_array_equal(found, expected)
        mask = polygon2mask(shape, ring[:, ::-1] - 0.5)
        assert np.count_nonzero(mask != found) <= 2


def test_ellipses_are_those_of_scikit_image():
    shape = (60, 70)
    for centre, radii, angle in [((30.2, 25.7), (20, 9), 0.6), ((3, 58), (15, 15), 0), ((40, 30), (5, 25), -1.2)]:
        found = np.zeros(shape, bool)
        found.ravel()[fill_ellipse(centre, radii, angle, shape)] = True
        expected = np.zeros(shape, bool)
        # scikit-image turns from y to x.
        expected[ellipse(centre[1] - 0.5, centre[0] - 0.5, radii[1], radii[0], shape, rotation=-angle)] = True
        assert np.count_nonzero(found != expected) <= 2 and found.sum() > 100
    assert fill_ellipse((5, 5), (0, 3), 0, shape).size == 0


@pytest.mark.parametrize("ring", [[(0, 0), (1, 1)], [(0, 0), (np.nan, 1), (1, 1)], [(0, 0), (np.inf, 1), (1, 1)]])
def test_what_is_no_outline_is_refused(ring):
    with pytest.raises(ValueError, match="an outline needs three points"):
        fill([np.array(ring)], (5, 5))


def test_outlines_beyond_the_image_are_cut_off_at_no_cost():
    ring = np.array([(-1e15, -1e15), (1e15, -1e15), (1e15, 1e15), (-1e15, 1e15)])
    assert fill([ring], (6, 7)).tolist() == list(range(42))
    assert fill([ring + np.array([5e15, 0])], (6, 7)).size == 0
