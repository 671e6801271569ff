"""Estimation of the imaging modality from an image's appearance, for data sets that do not record it.

Images are clustered by contrast histograms, as in the cross-validation of Vuola ("Nuclei segmentation using computer
vision", 2019), whose classes are fluorescence, histology and brightfield ("clustered into distinct classes using
contrast histograms", section 4.4.2). The thesis does not define its histograms. Here they are cumulative histograms of
lightness and chroma in CIE Lab, so that the distance of two images grows with that of their pixels' values, and the
clusters are those of k-means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count as count_up

import numpy as np
from scipy.spatial.distance import cdist
from tqdm import tqdm

from nucleus.datasets.dataset import DatasetError, NucleusDataset
from nucleus.images.appearance import contrast_histogram, look

_RESTARTS, _ITERATIONS = 50, 100


@dataclass(frozen=True)
class Agreement:
    """Agreement of clusters with known classes.

    Attributes:
        purity: Share of the images, 0..1, in the most frequent class of their cluster.
        adjusted_rand: Adjusted Rand index (Hubert and Arabie, 1985): 1 for equal divisions, 0 on average by chance.
    """

    purity: float
    adjusted_rand: float


def cluster(histograms: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Clusters histograms with k-means, the best of 50 runs with k-means++ initialisation.

    Args:
        histograms: float [N, D].
        count: Number of clusters.
        seed: Seed of the initial centres.

    Returns:
        int [N], cluster of each histogram, numbered from 0 by descending size, equally large ones in the order of their
        first members. There are fewer clusters than `count` if there are fewer different histograms.

    Raises:
        DatasetError: There are fewer histograms than clusters, or `count` is below 1.
    """
    if not 1 <= count <= len(histograms):
        raise DatasetError(f"{len(histograms)} images cannot be divided into {count} clusters")
    points = np.asarray(histograms, np.float64)
    rng = np.random.default_rng(seed)
    runs = (_lloyd(points, _first_centres(points, count, rng)) for _ in range(_RESTARTS))
    best, _ = min(runs, key=lambda run: run[1])
    _, first, which, sizes = np.unique(best, return_index=True, return_inverse=True, return_counts=True)
    ranks = np.empty(len(sizes), np.int64)
    ranks[np.lexsort((first, -sizes))] = np.arange(len(sizes))
    return ranks[which]


def estimate_modalities(
    dataset: NucleusDataset, count: int = 3, seed: int = 0, progress: bool = True
) -> dict[str, str]:
    """Estimates the modality of every image of a data set by clustering all of them.

    Examples:
        >>> from nucleus.datasets.dataset import shipped_data
        >>> dataset = NucleusDataset()
        >>> dataset.load_nucleus(shipped_data(), "val")
        >>> dataset.prepare()
        >>> modalities = estimate_modalities(dataset, count=2, progress=False)
        >>> len(modalities), len(set(modalities.values()))
        (6, 2)

    Args:
        dataset: Prepared data set without preprocessing. Known modalities are ignored.
        count: Number of clusters.
        seed: Seed of the clustering.
        progress: True to show a progress bar.

    Returns:
        Image id -> name of its cluster: the most frequent of `nucleus.images.appearance.LOOKS` among its images, with a
        number, the largest cluster first, where several clusters share it ("fluorescence-1", "fluorescence-2").

    Raises:
        DatasetError: The data set preprocesses its images, or has fewer images than clusters.
        nucleus.images.reading.ImageFileError: An image cannot be read.
    """
    if dataset.preprocessing is not None:
        raise DatasetError("Modalities show in images as they are: estimate them on a dataset without preprocessing.")
    histograms, looks = [], []
    for index in tqdm(dataset.image_ids, "modality", unit="image", disable=not progress):
        image = dataset.load_image(index)
        histograms.append(contrast_histogram(image))
        looks.append(look(image))
    clusters = cluster(np.array(histograms), count, seed)
    names = _name_clusters(clusters, looks)
    return {dataset.image_info[index]["id"]: names[c] for index, c in zip(dataset.image_ids, clusters, strict=True)}


def agreement(clusters: Sequence, classes: Sequence) -> Agreement:
    """Compares a division into clusters with known classes.

    Args:
        clusters: Cluster of each image.
        classes: Class of each image, in the same order.

    Returns:
        The `Agreement`.
    """
    table = np.zeros((len(set(clusters)), len(set(classes))), np.int64)
    np.add.at(table, tuple(np.unique(np.asarray(of), return_inverse=True)[1] for of in (clusters, classes)), 1)
    pairs, rows, columns = (_pairs(part) for part in (table, table.sum(axis=1), table.sum(axis=0)))
    by_chance = rows * columns / max(_pairs(table.sum()), 1)
    span = (rows + columns) / 2 - by_chance
    # No span: both have one group, or both only groups of one image, which is the same division.
    rand = 1.0 if span == 0 else (pairs - by_chance) / span
    return Agreement(purity=float(table.max(axis=1).sum() / table.sum()), adjusted_rand=float(rand))


def _first_centres(points: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws initial centres far from each other: Arthur and Vassilvitskii, "k-means++" (2007)."""
    chosen = [int(rng.integers(len(points)))]
    nearest = np.full(len(points), np.inf)
    while len(chosen) < count:
        nearest = np.minimum(nearest, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        if not nearest.any():
            break
        chosen.append(int(rng.choice(len(points), p=nearest / nearest.sum())))
    return points[chosen]


def _lloyd(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, float]:
    """Runs Lloyd's iterations; returns (cluster of each point [N], sum of the squared distances to the centres)."""
    clusters = None
    for _ in range(_ITERATIONS):
        distances = cdist(points, centres, "sqeuclidean")
        before, clusters = clusters, distances.argmin(axis=1)
        if before is not None and (clusters == before).all():
            break
        members = clusters == np.arange(len(centres))[:, None]
        sizes = members.sum(axis=1, keepdims=True)
        # A centre without points stays where it is.
        centres = np.where(sizes > 0, members @ points / np.maximum(sizes, 1), centres)
    return clusters, float(distances.min(axis=1).sum())


def _name_clusters(clusters: np.ndarray, looks: Sequence[str]) -> list[str]:
    shared = []
    for number in range(clusters.max() + 1):
        names, counts = np.unique(np.asarray(looks)[clusters == number], return_counts=True)
        shared.append(str(names[counts.argmax()]))
    numbers = {name: count_up(1) for name in shared}
    return [name if shared.count(name) == 1 else f"{name}-{next(numbers[name])}" for name in shared]


def _pairs(counts: np.ndarray) -> float:
    """Returns the number of pairs within groups of these sizes."""
    return float((counts * (counts - 1) / 2).sum())
