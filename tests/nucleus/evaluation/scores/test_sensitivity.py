"""Properties of nuclei against scikit-image, and recall and IoU by them against loops."""

import numpy as np
import pandas as pd
import pytest
from skimage.measure import label, regionprops
from skimage.morphology import dilation, footprint_rectangle

from nucleus.evaluation.scores.overlaps import overlaps
from nucleus.evaluation.scores.sensitivity import (
    cluster_sizes,
    eccentricities,
    iou_histogram,
    nucleus_table,
    recall_by,
)


def test_properties_are_scikit_images(images):
    table = nucleus_table(overlaps(images.truth, images.predicted))
    regions = regionprops(images.truth)
    np.testing.assert_array_equal(table["label"], [region.label for region in regions])
    np.testing.assert_array_equal(table["area"], [region.area for region in regions])
    np.testing.assert_allclose(table["eccentricity"], [region.eccentricity for region in regions], atol=1e-7)
    np.testing.assert_allclose(table["iou"], images.iou.max(axis=1))
    assert table["eccentricity"].between(0.2, 0.95).any()


def test_a_point_is_round_and_a_line_is_not():
    labels = np.zeros((9, 9), np.int32)
    labels[1, 1], labels[3, 2:8], labels[5:8, 5:8] = 1, 4, 9
    np.testing.assert_allclose(eccentricities(labels), [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize("pixels", [0, 1, 2])
def test_clusters_are_the_components_of_the_dilated_foreground(images, pixels):
    side = 2 * pixels + 1
    components = label(dilation(images.truth > 0, footprint_rectangle((side, side))), connectivity=2)
    expected = []
    for mask in images.truth_masks:
        places = np.unique(components[mask])
        expected.append(max(len(np.unique(images.truth[(components == p) & (images.truth > 0)])) for p in places))
    np.testing.assert_array_equal(cluster_sizes(images.truth, pixels), expected)


def test_nuclei_across_a_gap_of_twice_the_dilation_are_together():
    labels = np.array([[3, 0, 0, 1, 0, 0, 0, 2]])
    np.testing.assert_array_equal(cluster_sizes(labels, 1), [2, 1, 2])
    np.testing.assert_array_equal(cluster_sizes(labels, 2), [3, 3, 3])
    np.testing.assert_array_equal(cluster_sizes(labels, 0), [1, 1, 1])
    with pytest.raises(ValueError, match="dilation=-1"):
        cluster_sizes(labels, -1)


def test_groups_hold_equal_numbers_of_nuclei():
    rng = np.random.default_rng(0)
    nuclei = pd.DataFrame({"area": rng.permutation(100) + 1, "iou": rng.uniform(size=100)})
    groups = recall_by(nuclei, "area", bins=4, threshold=0.6)
    assert list(groups["nuclei"]) == [25, 25, 25, 25]
    assert list(groups["low"]) == [1, 26, 51, 76]
    assert list(groups["high"]) == [25, 50, 75, 100]
    for row in groups.itertuples():
        assert row.recall == (nuclei["iou"][nuclei["area"].between(row.low, row.high)] > 0.6).mean()


def test_equal_values_are_not_divided():
    sizes = [1] * 50 + [2] * 10 + [3] * 30 + [7] * 10
    nuclei = pd.DataFrame({"cluster_size": sizes, "iou": [1.0] * 50 + [0.0] * 50})
    groups = recall_by(nuclei, "cluster_size", bins=4)
    assert groups["nuclei"].sum() == 100
    assert list(groups["low"]) == [1, 2, 7]
    assert list(groups["high"]) == [1, 3, 7]
    assert list(groups["recall"]) == [1, 0, 0]
    constant = recall_by(nuclei[nuclei["cluster_size"] == 1], "cluster_size")
    assert len(constant) == 1
    assert constant["nuclei"][0] == 50


def test_the_density_of_a_histogram_integrates_to_one():
    nuclei = pd.DataFrame({"iou": [0.0, 0.0, 0.55, 0.95, 1.0]})
    histogram = iou_histogram(nuclei, bins=10)
    assert list(histogram["nuclei"]) == [2, 0, 0, 0, 0, 1, 0, 0, 0, 2]
    np.testing.assert_allclose(histogram["low"], np.arange(10) / 10)
    assert (histogram["density"] * (histogram["high"] - histogram["low"])).sum() == pytest.approx(1)


def test_without_nuclei_there_is_nothing_to_group(edge_cases):
    for case in ("neither", "no truth"):
        table = nucleus_table(overlaps(*edge_cases[case]))
        assert len(table) == 0
        assert len(recall_by(table, "area")) == 0
        assert iou_histogram(table)["density"].sum() == 0
    missed = nucleus_table(overlaps(*edge_cases["no prediction"]))
    assert list(missed["iou"]) == [0, 0]
    assert recall_by(missed, "area", bins=1)["recall"][0] == 0


def test_thresholds_and_groups_that_mean_nothing_are_refused():
    nuclei = pd.DataFrame({"area": [1], "iou": [1.0]})
    with pytest.raises(ValueError, match="unique"):
        recall_by(nuclei, "area", threshold=0.3)
    with pytest.raises(ValueError, match="bins=0"):
        recall_by(nuclei, "area", bins=0)
