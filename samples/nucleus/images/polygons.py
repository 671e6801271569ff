"""Label images as polygons, and polygons as pixels, without a loss.

Coordinates are (x, y) from the corner of the first pixel, as in ImageJ and QuPath: pixel (row, column) is the square
from (column, row) to (column + 1, row + 1). Outlines follow the sides of pixels, and a pixel is inside an outline if
its centre is, so that filling a traced outline gives back its pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from skimage.measure import label as connected_components

from nucleus.images.labels import differing_sides

# A closed line, [P, 2] of (x, y); the last point is joined to the first.
Ring = np.ndarray
# The outer ring of a connected piece, then those of its holes.
Polygon = list[Ring]

# Steps along a pixel's top, right, bottom and left side, with the pixel to the right.
_STEPS = ((0, 0), (1, 0), (1, 1), (0, 1))


def trace(labels: np.ndarray) -> list[list[Polygon]]:
    """Traces the outlines of all labels.

    Pixels of a label that share a side are one polygon; those that meet at a corner are two. Polygons are valid by the
    rules of the Open Geospatial Consortium (simple features): rings neither cross nor touch themselves, and holes lie
    inside.

    Examples:
        >>> ((ring,),) = trace(np.array([[0, 0, 0], [0, 1, 1]]))[0]
        >>> ring.tolist()
        [[1, 1], [3, 1], [3, 2], [1, 2]]

    Args:
        labels: Integer `[H, W]`, label image.

    Returns:
        The polygons of labels 1 to the highest one, from top to bottom; none for a label without a pixel. Rings are
        int64 `[P, 2]`, and only points at which they turn are in them. Outer rings have a positive area
        (`signed_area`), holes a negative one.
    """
    outlines: list[list[Polygon]] = [[] for _ in range(int(labels.max(initial=0)))]
    pieces = connected_components(labels, connectivity=1).ravel()
    flat = labels.ravel()
    polygons: dict[int, Polygon] = {}
    for pixel, ring in _rings(labels):
        piece = int(pieces[pixel])
        if piece not in polygons:
            polygons[piece] = []
            outlines[flat[pixel] - 1].append(polygons[piece])
        # A piece has one outer ring.
        polygons[piece].insert(0 if signed_area(ring) > 0 else len(polygons[piece]), ring)
    return outlines


def signed_area(ring: Ring) -> float:
    """Computes the area of a ring by the shoelace formula.

    Args:
        ring: `[P, 2]`, (x, y).

    Returns:
        Square pixels; positive if the ring runs clockwise where y points down.
    """
    x, y = ring.astype(np.float64).T
    return float(x @ np.roll(y, -1) - np.roll(x, -1) @ y) / 2


def fill(rings: Sequence[Ring], shape: tuple[int, int]) -> np.ndarray:
    """Returns the pixels whose centres are inside an odd number of rings.

    Examples:
        >>> fill([np.array([[1, 0], [3, 0], [3, 1], [1, 1]])], (2, 4))
        array([1, 2])

    Args:
        rings: Rings `[P, 2]` of any real dtype, such as those of one polygon. They may leave the image.
        shape: (height, width) of the image.

    Returns:
        int64 `[P]` indices into the image flattened row by row, ascending.

    Raises:
        ValueError: A ring has fewer than three points, or a coordinate that is not finite.
    """
    height, width = shape
    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for ring in rings:
        points = np.asarray(ring, np.float64)
        if points.ndim != 2 or points.shape[1] != 2 or len(points) < 3 or not np.isfinite(points).all():
            raise ValueError(f"an outline needs three points or more, each a finite x and y; found {points.shape[0]}")
        row, x = _crossings(points, height)
        rows.append(row)
        columns.append(np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64))
    row, column = np.concatenate(rows), np.concatenate(columns)
    if not row.size:
        return row
    top, left = row.min(), column.min()
    box = (row.max() - top + 1, column.max() - left + 1)
    # Every line that is crossed from the left switches between outside and inside.
    switches = np.bincount((row - top) * box[1] + column - left, minlength=box[0] * box[1]).reshape(box)
    y, x = np.nonzero(np.cumsum(switches, axis=1) % 2)
    return (y + top) * width + x + left


def fill_all(polygons: Sequence[Sequence[Ring]], shape: tuple[int, int]) -> np.ndarray:
    """Returns the pixels that are in any of several polygons; see `fill`."""
    found = [fill(polygon, shape) for polygon in polygons]
    return np.unique(np.concatenate([np.zeros(0, np.int64), *found]))


def fill_ellipse(
    centre: tuple[float, float], radii: tuple[float, float], angle: float, shape: tuple[int, int]
) -> np.ndarray:
    """Returns the pixels whose centres are inside an ellipse.

    Args:
        centre: (x, y).
        radii: Half the axes, in pixels.
        angle: Angle in radians from the x axis to the first axis, clockwise where y points down.
        shape: (height, width) of the image.

    Returns:
        int64 `[P]` indices into the image flattened row by row, ascending.

    Raises:
        ValueError: A number is not finite, or a radius is negative.
    """
    if not np.isfinite([*centre, *radii, angle]).all() or min(radii) < 0:
        raise ValueError(f"an ellipse needs a centre and radii from 0 on; found {centre}, {radii}, {angle}")
    if not min(radii):
        return np.zeros(0, np.int64)
    reach = max(radii)
    (left, right), (top, bottom) = (
        np.clip([middle - reach, middle + reach + 1], 0, side).astype(np.int64)
        for middle, side in zip(centre, shape[::-1], strict=True)
    )
    y, x = np.mgrid[top:bottom, left:right]
    dx, dy = x + 0.5 - centre[0], y + 0.5 - centre[1]
    along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
    inside = (along / radii[0]) ** 2 + (across / radii[1]) ** 2 < 1
    return (y * shape[1] + x)[inside]


def _crossings(points: np.ndarray, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns where the lines of a ring cross the middles of rows: row numbers, and x."""
    x0, y0 = points.T
    x1, y1 = np.roll(points, -1, axis=0).T
    first, end = (
        np.clip(np.ceil(y - 0.5), 0, height).astype(np.int64) for y in (np.minimum(y0, y1), np.maximum(y0, y1))
    )
    counts = end - first
    line = np.repeat(np.arange(len(points)), counts)
    row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[line]
    slope = (x1 - x0)[line] / (y1 - y0)[line]
    return row, x0[line] + (row + 0.5 - y0[line]) * slope


def _rings(labels: np.ndarray) -> Iterator[tuple[int, Ring]]:
    """Yields every ring with the index of a pixel to the right of it, from top to bottom."""
    width = labels.shape[1]
    up, down, left, right = differing_sides(np.pad(labels, 1))[:, 1:-1, 1:-1] & (labels > 0)
    sides = np.stack([up, right, down, left]).reshape(4, -1)
    # A side is numbered by its place and its pixel, first by its pixel.
    numbers = np.flatnonzero(sides.T)
    following = np.searchsorted(numbers, _following(sides, numbers, width)).tolist()
    pixels, places = np.divmod(numbers, 4)
    steps = np.array(_STEPS)[places]
    corners = np.stack([pixels % width, pixels // width], axis=1) + steps
    turns = np.empty(len(numbers), bool)
    turns[following] = places[following] != places
    seen = bytearray(len(numbers))
    for start in range(len(numbers)):
        if seen[start]:
            continue
        ring, side = [], start
        while not seen[side]:
            seen[side] = 1
            ring.append(side)
            side = following[side]
        ring = np.array(ring)
        for simple in _split(corners[ring[turns[ring]]]):
            yield int(pixels[start]), simple


def _following(sides: np.ndarray, numbers: np.ndarray, width: int) -> np.ndarray:
    """Returns the number of the side that follows each side, where one stays with pixels that share sides."""
    across = np.array([-width, 1, width, -1])
    pixels, places = np.divmod(numbers, 4)
    after = (places + 1) % 4
    neighbour = pixels + across[after]
    turning = sides[after, pixels]
    # Where the pixel's own next side is inside the nucleus, so is the neighbour, which may end in line or lead back.
    neighbour = np.where(turning, pixels, neighbour)
    straight = sides[places, neighbour]
    beyond = np.where(straight | turning, pixels, neighbour + across[places])
    return np.select([turning, straight], [4 * pixels + after, 4 * neighbour + places], 4 * beyond + (places - 1) % 4)


def _split(corners: np.ndarray) -> list[Ring]:
    """Splits a ring where it touches itself in a corner."""
    points = list(map(tuple, corners.tolist()))
    if len(set(points)) == len(points):
        return [corners]
    rings: list[Ring] = []
    path: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for point in points:
        if point in place:
            at = place[point]
            rings.append(np.array(path[at:]))
            for gone in path[at:]:
                del place[gone]
            del path[at:]
        place[point] = len(path)
        path.append(point)
    return [*rings, np.array(path)]
