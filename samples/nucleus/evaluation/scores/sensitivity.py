"""Which nuclei are found and how well: recall by area, roundness and crowding, and the distribution of IoU.

After "Nuclei segmentation using computer vision", Vuola, 2019, sections 5.1.1 and 5.1.2.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.ndimage import binary_dilation, generate_binary_structure
from scipy.ndimage import label as connected_components

from nucleus.evaluation.scores.matching import DETECTION_IOU
from nucleus.evaluation.scores.overlaps import Overlaps, instance_indices, overlaps

PROPERTIES = ("area", "eccentricity", "cluster_size")


def nucleus_table(pair: Overlaps, dilation: int = 1) -> pd.DataFrame:
    """Describes every nucleus of the ground truth, and how well it was outlined.

    Tables of several images are put together with `pandas.concat`.

    Args:
        pair: Overlaps of ground truth and prediction.
        dilation: As `cluster_sizes`.

    Returns:
        One row a true nucleus, by ascending label: `label`; `area` in pixels; `eccentricity`, 0 (circle) to 1
        (line), of the ellipse with the same second moments; `cluster_size`, nuclei in its cluster with itself;
        `iou`, the largest with any prediction, 0 where none overlaps it.
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
    """Recall in groups of nuclei that differ in one property: figure 5.4 of the thesis.

    The groups' limits are set so that each holds the same number of nuclei. Nuclei of equal value stay together, so
    that the groups of a property with few values, such as the cluster size, are fewer and differ in size.

    Args:
        nuclei: Rows of `nucleus_table`.
        column: The property, such as those of PROPERTIES.
        bins: Groups at most.
        threshold: IoU above which a nucleus counts as found, 0.5..1.

    Returns:
        One row a group, by ascending value: `low` and `high`, the extremes of the property in it, `nuclei` (their
        number) and `recall` in 0..1. No row without nuclei.

    Raises:
        ValueError: The threshold is not in 0.5..1, or `bins` is below 1.
    """
    if not 0.5 <= threshold <= 1:
        raise ValueError(f"Below an IoU of 0.5 matches are not unique. Received: threshold={threshold}")
    if bins < 1:
        raise ValueError(f"There must be a group at least. Received: bins={bins}")
    values = nuclei[column].to_numpy()
    # The largest value of each group but the last; a nucleus of that value belongs to it, whichever its place is.
    limits = np.unique(np.quantile(values, np.arange(1, bins) / bins, method="inverted_cdf")) if len(values) else []
    groups = np.searchsorted(limits, values, side="left")
    rows = pd.DataFrame({"value": values, "found": nuclei["iou"].to_numpy() > threshold}).groupby(groups)
    return rows.agg(
        low=("value", "min"), high=("value", "max"), nuclei=("found", "size"), recall=("found", "mean")
    ).reset_index(drop=True)


def iou_histogram(nuclei: pd.DataFrame, bins: int = 20) -> pd.DataFrame:
    """Distribution of the IoU of true nuclei with their best prediction: figure 5.5b of the thesis.

    Args:
        nuclei: Rows of `nucleus_table`, such as those of one modality.
        bins: Intervals of equal width from 0 to 1.

    Returns:
        One row an interval: `low`, `high`, `nuclei` (their number; missed ones have an IoU of 0, and 1 belongs to
        the last interval) and `density`, which integrates to 1, or is 0 without nuclei.
    """
    counts, limits = np.histogram(nuclei["iou"], bins=bins, range=(0.0, 1.0))
    density = counts * bins / max(counts.sum(), 1)
    return pd.DataFrame({"low": limits[:-1], "high": limits[1:], "nuclei": counts, "density": density})


def eccentricities(labels: np.ndarray) -> np.ndarray:
    """Eccentricity of the ellipse with the same second moments as each instance.

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
    # Eigenvalues of the covariance matrix, by which the squared half axes go.
    middle, spread = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    large, small = middle + spread, np.maximum(middle - spread, 0)
    return np.sqrt(1 - np.divide(small, large, out=np.ones_like(large), where=large > 0))


def cluster_sizes(labels: np.ndarray, dilation: int = 1) -> np.ndarray:
    """Numbers of nuclei that lie together.

    The foreground is dilated, and the nuclei of each connected component form a cluster (Vuola, 2019, section
    5.1.1, which does not say by how much).

    Args:
        labels: Integer `[H, W]` label image.
        dilation: Pixels by which the foreground grows in the eight directions: nuclei with a gap of up to twice as
            many pixels are together. 0 unites those that touch.

    Returns:
        int64 `[N]`, by ascending label: nuclei in the cluster, the nucleus itself included. A nucleus of several
        parts is in the largest cluster that one of them is in.

    Raises:
        ValueError: `dilation` is negative.
    """
    if dilation < 0:
        raise ValueError(f"A foreground cannot grow by fewer than 0 pixels. Received: dilation={dilation}")
    square = generate_binary_structure(2, 2)
    grown = binary_dilation(labels > 0, square, iterations=dilation) if dilation else labels > 0
    components, _ = connected_components(grown, square)
    members = overlaps(labels, components)
    sizes = np.bincount(members.predicted_index)[members.predicted_index]
    largest = np.zeros(len(members.truth_ids), np.int64)
    np.maximum.at(largest, members.truth_index, sizes)
    return largest
