"""Recall by area, eccentricity and crowding of nuclei, and the distribution of their IoU.

After "Nuclei segmentation using computer vision", Vuola, 2019, sections 5.1.1 and 5.1.2.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.ndimage import binary_dilation, generate_binary_structure
from scipy.ndimage import label as connected_components

from nucleus.evaluation.scores.matching import DETECTION_IOU, require_unique
from nucleus.evaluation.scores.overlaps import Overlaps, instance_indices, overlaps

PROPERTIES = ("area", "eccentricity", "cluster_size")


def nucleus_table(pair: Overlaps, dilation: int = 1) -> pd.DataFrame:
    """Tabulates the properties of every true nucleus and its IoU; `pandas.concat` joins the tables of several images.

    Args:
        pair: Overlaps of ground truth and prediction.
        dilation: Pixels by which the foreground is dilated to find clusters; see `cluster_sizes`.

    Returns:
        One row for each true nucleus, by ascending label: `label`; `area` in pixels; `eccentricity`, 0 (circle) to 1
        (line), of the ellipse with the same second moments; `cluster_size`, number of nuclei in its cluster including
        itself; `iou`, largest IoU with any prediction, 0 without overlap.
    """
    return pd.DataFrame(
        {
            "label": pair.truth_ids,
            "area": pair.truth_areas,
            "eccentricity": eccentricities(pair.truth),
            "cluster_size": cluster_sizes(pair.truth, dilation),
            "iou": pair.best_iou,
        }
    )


def recall_by(nuclei: pd.DataFrame, column: str, bins: int = 5, threshold: float = DETECTION_IOU) -> pd.DataFrame:
    """Computes recall in groups of nuclei by one property: figure 5.4 of the thesis.

    Groups have equal numbers of nuclei. Nuclei of equal value are in one group, so a property with few values, such as
    the cluster size, has fewer groups of unequal size.

    Args:
        nuclei: Rows of `nucleus_table`.
        column: Name of the property, such as those of PROPERTIES.
        bins: Largest number of groups.
        threshold: IoU above which a nucleus counts as found, 0.5..1.

    Returns:
        One row for each group, by ascending value: `low` and `high`, the extremes of the property in the group,
        `nuclei`, their number, and `recall` in 0..1. The table of no nuclei is empty.

    Raises:
        ValueError: The threshold is not in 0.5..1, or `bins` is below 1.
    """
    require_unique(threshold)
    if bins < 1:
        raise ValueError(f"Expected at least one group. Received: bins={bins}")
    values = nuclei[column].to_numpy()
    # The largest value of each group but the last; all nuclei of that value belong to the group.
    limits = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")) if len(values) else []
    groups = np.searchsorted(limits, values, side="left")
    rows = pd.DataFrame({"value": values, "found": nuclei["iou"].to_numpy() > threshold}).groupby(groups)
    return rows.agg(
        low=("value", "min"), high=("value", "max"), nuclei=("found", "size"), recall=("found", "mean")
    ).reset_index(drop=True)


def iou_histogram(nuclei: pd.DataFrame, bins: int = 20) -> pd.DataFrame:
    """Computes the distribution of the true nuclei's IoU with their best prediction: figure 5.5b of the thesis.

    Args:
        nuclei: Rows of `nucleus_table`, such as those of one modality.
        bins: Number of intervals of equal width from 0 to 1.

    Returns:
        One row for each interval: `low`, `high`, `nuclei` (their number, with missed nuclei at an IoU of 0; 1 belongs
        to the last interval) and `density`, which integrates to 1, or is 0 without nuclei.
    """
    counts, limits = np.histogram(nuclei["iou"], bins=bins, range=(0.0, 1.0))
    density = counts * bins / max(counts.sum(), 1)
    return pd.DataFrame({"low": limits[:-1], "high": limits[1:], "nuclei": counts, "density": density})


def eccentricities(labels: np.ndarray) -> np.ndarray:
    """Computes the eccentricity of the ellipse with the same second moments as each instance.

    Args:
        labels: Integer `[H, W]` label image.

    Returns:
        float64 `[N]` in 0..1, by ascending label: 0 for a circle, and for a single pixel; 1 for a line.
    """
    ids, instances = instance_indices(labels)
    y, x = np.nonzero(labels)
    instance = instances[y, x]
    area = np.bincount(instance, minlength=len(ids))

    def mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(instance, weights=values, minlength=len(ids)) / area

    dy, dx = y - mean(y)[instance], x - mean(x)[instance]
    yy, xx, xy = mean(dy * dy), mean(dx * dx), mean(dx * dy)
    # Eigenvalues of the covariance matrix, proportional to the squared half axes.
    middle, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    large, small = middle + spread, np.maximum(middle - spread, 0)
    return np.sqrt(1 - np.divide(small, large, out=np.ones_like(large), where=large > 0))


def cluster_sizes(labels: np.ndarray, dilation: int = 1) -> np.ndarray:
    """Counts the nuclei in each nucleus's cluster.

    A cluster is the nuclei in one connected component of the dilated foreground (Vuola, 2019, section 5.1.1, which does
    not give the amount of dilation).

    Args:
        labels: Integer `[H, W]`, label image.
        dilation: Pixels of the dilation in all eight directions: nuclei with a gap of up to twice as many pixels are in
            one cluster. 0 joins nuclei that touch.

    Returns:
        int64 `[N]`, by ascending label: number of nuclei in the cluster, including the nucleus itself. A nucleus of
        several parts belongs to the largest of their clusters.

    Raises:
        ValueError: `dilation` is negative.
    """
    if dilation < 0:
        raise ValueError(f"Expected a dilation of at least 0 pixels. Received: dilation={dilation}")
    square = generate_binary_structure(2, 2)
    grown = binary_dilation(labels > 0, square, iterations=dilation) if dilation else labels > 0
    components, _ = connected_components(grown, square)
    members = overlaps(labels, components)
    sizes = np.bincount(members.predicted_index)[members.predicted_index]
    largest = np.zeros(len(members.truth_ids), np.int64)
    np.maximum.at(largest, members.truth_index, sizes)
    return largest
