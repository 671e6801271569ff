"""Random walker segmentation (Grady, "Random walks for image segmentation", 2006) of touching nuclei.

A pixel goes to the marker that a random walker starting there reaches first with the highest probability. The walker
prefers steps between pixels of similar value, so it seldom crosses the dip between two nuclei. These probabilities
solve one sparse linear system for each region of pixels without a marker, with a right-hand side for each marker at
the region's rim; a region that one marker surrounds is that marker's and needs no solution.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

# Least weight of a step, however large the difference; it keeps the systems regular.
_LEAST_WEIGHT = 1e-6
# Numbers solved for at once, 64 MB of float64; regions with more pixels times markers take several goes.
_NUMBERS_AT_ONCE = 1 << 23


def random_walk(values: np.ndarray, markers: np.ndarray, mask: np.ndarray, beta: float = 90.0) -> np.ndarray:
    """Grows markers to the whole of a mask.

    Steps go to the four neighbours inside the mask; a step between values a and b weighs exp(-beta (a - b)^2), Grady's
    eq. 1.

    Args:
        values: float `[H, W]` in 0..1, such as the probability that a pixel belongs to a nucleus.
        markers: int32 `[H, W]`, numbered markers, 0 elsewhere. Markers outside the mask are left out.
        mask: bool `[H, W]`, each of whose 4-connected components holds a marker.
        beta: Strength, 0 or more, with which differences in value keep the walker from crossing; 0 ignores them.

    Returns:
        int32 `[H, W]`, a marker's number on each pixel of the mask, 0 elsewhere. Ties go to the lower number.

    Raises:
        ValueError: A component of the mask holds no marker.
    """
    labels = np.where(mask, markers, 0).astype(np.int32)
    unknown = mask & (labels == 0)
    count = np.count_nonzero(unknown)
    number = np.full(mask.shape, -1, np.int32)
    number[unknown] = np.arange(count)
    system, rim = _linear_system(values, labels, number, mask, beta)
    regions, region_of = sparse.csgraph.connected_components(system, directed=False)
    order = np.argsort(region_of, kind="stable")
    system, rim = system[order][:, order], rim[order]
    ends = np.cumsum(np.bincount(region_of, minlength=regions))
    found = np.empty(count, np.int32)
    for start, end in zip(np.append(0, ends[:-1]), ends, strict=True):
        candidates = np.unique(rim.indices[rim.indptr[start] : rim.indptr[end]])
        if len(candidates) == 0:
            raise ValueError("Every 4-connected component of the mask must hold a marker.")
        if len(candidates) == 1:
            found[order[start:end]] = candidates
        else:
            first = _reached_first(system[start:end, start:end], rim[start:end], candidates)
            found[order[start:end]] = first
    labels[unknown] = found
    return labels


def _linear_system(
    values: np.ndarray, labels: np.ndarray, number: np.ndarray, mask: np.ndarray, beta: float
) -> tuple[sparse.csr_array, sparse.csr_array]:
    """Weighs the steps of the walker.

    Args:
        values: float `[H, W]` in 0..1.
        labels: int32 `[H, W]`, numbered markers, 0 elsewhere.
        number: int32 `[H, W]`, 0...n - 1 on the pixels to be decided, -1 elsewhere.
        mask: bool `[H, W]`, pixels that the walker may step on.
        beta: Strength with which differences in value keep the walker from crossing.

    Returns:
        (system `[n, n]`, rim `[n, markers + 1]`): the Laplacian of the graph between the pixels to be decided, and the
        weight of the steps from each of them to each marker.
    """
    count = int(number.max(initial=-1)) + 1
    degree = np.zeros(count)
    inner, rim = [], []
    for here, there in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[1:], np.s_[:-1]),
    ):
        steps = (number[here] >= 0) & mask[there]
        start, end, marker = number[here][steps], number[there][steps], labels[there][steps]
        difference = values[here][steps].astype(np.float64) - values[there][steps]
        weight = np.maximum(np.exp(-beta * difference**2), _LEAST_WEIGHT)
        degree += np.bincount(start, weight, minlength=count)
        between = marker == 0
        inner.append((start[between], end[between], -weight[between]))
        rim.append((start[~between], marker[~between], weight[~between]))
    everyone = np.arange(count)
    inner.append((everyone, everyone, degree))
    return (
        _sum_entries(inner, (count, count)),
        _sum_entries(rim, (count, int(labels.max(initial=0)) + 1)),
    )


def _sum_entries(entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]], shape: tuple[int, int]) -> sparse.csr_array:
    rows, columns, weights = (np.concatenate(part) for part in zip(*entries, strict=True))
    return sparse.coo_array((weights, (rows, columns)), shape=shape).tocsr()


def _reached_first(system: sparse.csr_array, rim: sparse.csr_array, candidates: np.ndarray) -> np.ndarray:
    """Returns the candidate that each pixel of one region most probably reaches first, int32 `[n]`."""
    solver = splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    rim = rim.tocsc()
    pixels = system.shape[0]
    best, highest = np.empty(pixels, np.int32), np.full(pixels, -np.inf)
    step = max(1, _NUMBERS_AT_ONCE // pixels)
    for start in range(0, len(candidates), step):
        some = candidates[start : start + step]
        probabilities = solver.solve(rim[:, some].toarray())
        winner = probabilities.argmax(axis=1)
        reached = probabilities[np.arange(pixels), winner]
        better = reached > highest
        best[better], highest[better] = some[winner[better]], reached[better]
    return best
