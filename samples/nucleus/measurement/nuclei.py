"""Tables: a row a nucleus, with shape in pixels and intensity in the units of the file, and a row an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.spatial import KDTree
from skimage.measure import regionprops_table

from nucleus.images.decoding import RawImage
from nucleus.images.decoding.planes import COLOURS
from nucleus.measurement.intensity import STATISTICS, Groups, brightness, distinct_channels

# Column -> property of skimage.measure.regionprops.
_FIRST = {
    "label": "label",
    "area": "area",
    "centroid_y": "centroid-0",
    "centroid_x": "centroid-1",
    "y1": "bbox-0",
    "x1": "bbox-1",
    "y2": "bbox-2",
    "x2": "bbox-3",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
}
_SHAPE = {
    "equivalent_diameter": "equivalent_diameter_area",
    "perimeter": "perimeter",
    "major_axis": "axis_major_length",
    "minor_axis": "axis_minor_length",
    "orientation": "orientation",
    "feret_diameter": "feret_diameter_max",
}
_LENGTHS = (
    *("centroid_y", "centroid_x", "equivalent_diameter", "perimeter", "major_axis", "minor_axis", "feret_diameter"),
    "nearest_distance",
)
_INTENSITY = "intensity"
COLUMNS = (
    *_FIRST,
    *(f"{statistic}_{_INTENSITY}" for statistic in STATISTICS),
    *("equivalent_diameter", "perimeter", "circularity", "major_axis", "minor_axis", "orientation", "feret_diameter"),
    *("nearest_distance", "touches_edge"),
    "area_um2",
    *(f"{name}_um" for name in _LENGTHS),
)
# Name of the columns -> column of the nuclei.
_SPREAD = {"area": "area", "intensity": "mean_intensity"}
_SPREAD_IN_UM = {"area_um2": "area_um2"}
_QUARTILES = {"q1": 0.25, "median": 0.5, "q3": 0.75}
_MEGAPIXEL = 1e6
_UM2_PER_MM2 = 1e6
SUMMARY_COLUMNS = (
    "nuclei_per_megapixel",
    *(f"{name}_{quartile}" for name in _SPREAD for quartile in _QUARTILES),
    *("pixel_size_um", "nuclei_per_mm2"),
    *(f"{name}_{quartile}" for name in _SPREAD_IN_UM for quartile in _QUARTILES),
)


def measure(
    labels: np.ndarray, image: RawImage | np.ndarray | None = None, pixel_size: float | None = None
) -> pd.DataFrame:
    """Measures every nucleus of a label image.

    Shapes are those of `skimage.measure.regionprops`, in pixels:

    * area; centroid_y and centroid_x, from the centre of the first pixel; y1, x1, y2, x2, the bounding box, y2 and x2
      exclusive; equivalent_diameter of the circle of the same area; perimeter; feret_diameter, the largest distance
      between two points of the convex hull; solidity, area over that of the convex hull;
    * major_axis, minor_axis, eccentricity (0 circle to 1 line) and orientation of the ellipse with the same second
      moments; orientation is the angle in radians from the vertical axis to the major axis, counter-clockwise, from
      -pi/2 to pi/2;
    * circularity, 4 pi area / perimeter^2, at most 1: perimeters of a few pixels are too short;
    * nearest_distance from centroid to nearest other centroid in the image, NaN where there is none;
    * touches_edge, 1 where the bounding box reaches the image's edge and the nucleus may go on beyond it, else 0.

    Where the side of a pixel is known, area_um2 follows, and centroid, diameters, perimeter, axes and nearest_distance
    in µm (perimeter_um and so on).

    Intensities are those of the file, in its own units: mean, min, max, std (of the population) and sum of the channel
    that is shown to a network, as mean_intensity and so on; of several shown channels their luminance (ITU-R BT.601:
    0.299 R + 0.587 G + 0.114 B, rounded for 8 bits). An image of several channels has columns for each of them too,
    named by the channel as in mean_DAPI, or mean_channel2 for one without a name, mean_red of a colour image. A grey
    image that is stored as colour, with three equal channels, has one.

    Examples:
        >>> labels = np.zeros((8, 9), np.int32)
        >>> labels[1:4, 1:5], labels[6:, 7:] = 1, 2
        >>> table = measure(labels, np.arange(72, dtype=np.uint16).reshape(8, 9))
        >>> table[["label", "area", "mean_intensity", "max_intensity", "touches_edge"]].to_numpy().astype(int).tolist()
        [[1, 12, 20, 31, 0], [2, 4, 66, 71, 1]]

    Args:
        labels: Integer [H, W], 0 background; other numbers are nuclei.
        image: Samples to measure, [H, W] grey or [H, W, 3] RGB of any real dtype, or what
            `nucleus.images.reading.read_raw` returns; None for shapes only.
        pixel_size: Side of a pixel in µm; None for that of the image, if it is known.

    Returns:
        One row a nucleus, by ascending label.

    Raises:
        ValueError: Image and labels differ in height or width, the labels are no whole numbers from 0 on, or the array
            is no grey or RGB image.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer) or labels.min(initial=0) < 0:
        raise ValueError(f"Expected labels [H, W], whole numbers from 0 on. Received: {labels.dtype} {labels.shape}")
    raw = None if image is None else _as_raw(image)
    if raw is not None and raw.pixels.shape[:2] != labels.shape:
        raise ValueError(f"Image and labels differ in shape. Received: {raw.pixels.shape[:2]} and {labels.shape}")
    numbers = None
    if labels.max(initial=0) > labels.size:
        # scikit-image needs memory for every number up to the highest.
        numbers, labels = _without_gaps(labels)
    columns = _shapes(labels)
    if pixel_size is None and raw is not None:
        pixel_size = raw.pixel_size
    if pixel_size is not None:
        columns["area_um2"] = columns["area"] * pixel_size**2
        columns |= {f"{name}_um": columns[name] * pixel_size for name in _LENGTHS}
    if raw is not None:
        columns |= _intensities(labels, raw, columns["label"])
    if numbers is not None:
        columns["label"] = numbers[columns["label"] - 1]
    return pd.DataFrame(columns)[in_order(columns, COLUMNS)]


def in_order(names: Iterable[str], order: Sequence[str]) -> list[str]:
    """Sorts the names of columns: those of an order first, then the others as they come."""
    names = list(names)
    return [name for name in order if name in names] + [name for name in names if name not in order]


def _as_raw(image: RawImage | np.ndarray) -> RawImage:
    if isinstance(image, RawImage):
        return image
    pixels = np.asarray(image)
    if pixels.ndim == 2:
        return RawImage(pixels[..., None], ("",), (0,))
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"Expected an image [H, W] or [H, W, 3] RGB, or a RawImage. Received: shape {pixels.shape}")
    return RawImage(pixels, COLOURS, (0, 1, 2))


def _without_gaps(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the labels that occur, ascending, and the label image with 1...N instead of them."""
    numbers = np.unique(labels[labels > 0])
    return numbers, np.where(labels > 0, np.searchsorted(numbers, labels) + 1, 0)


def _shapes(labels: np.ndarray) -> dict[str, np.ndarray]:
    wanted = dict.fromkeys(key.partition("-")[0] for key in (_FIRST | _SHAPE).values())
    found = regionprops_table(labels, properties=tuple(wanted))
    columns = {name: found[key] for name, key in (_FIRST | _SHAPE).items()}
    columns["area"] = columns["area"].astype(np.int64)
    with np.errstate(divide="ignore"):
        circularity = 4 * np.pi * columns["area"] / columns["perimeter"] ** 2
    columns["circularity"] = np.minimum(circularity, 1.0)
    columns["nearest_distance"] = _nearest(np.stack([columns["centroid_y"], columns["centroid_x"]], axis=1))
    height, width = labels.shape
    inside = (columns["y1"] > 0) & (columns["x1"] > 0) & (columns["y2"] < height) & (columns["x2"] < width)
    columns["touches_edge"] = (~inside).astype(np.int64)
    return columns


def _nearest(centroids: np.ndarray) -> np.ndarray:
    """Returns the distance of each point to the nearest other one, float64 [N]; NaN for a single point."""
    if len(centroids) < 2:
        return np.full(len(centroids), np.nan)
    return KDTree(centroids).query(centroids, k=2)[0][:, 1]


def _intensities(labels: np.ndarray, raw: RawImage, numbers: np.ndarray) -> dict[str, np.ndarray]:
    groups = Groups(labels, numbers)
    channels = {_INTENSITY: brightness(raw.visible())} | distinct_channels(raw, taken={_INTENSITY})
    return {
        f"{statistic}_{name}": values
        for name, pixels in channels.items()
        for statistic, values in groups.statistics(pixels).items()
    }


def summarise(nuclei: pd.DataFrame, shape: tuple[int, int], pixel_size: float | None = None) -> dict[str, float]:
    """Summarises the nuclei of one image.

    Args:
        nuclei: Result of `nucleus.measurement.measure` for it, with intensities.
        shape: (height, width) of the image.
        pixel_size: Side of a pixel in µm; None where it is not known.

    Returns:
        nuclei_per_megapixel, the quartiles (area_q1, area_median, area_q3, and so on; linear interpolation) of area and
        mean intensity, NaN where there is no nucleus, and pixel_size_um; where it is known also nuclei_per_mm2 and the
        quartiles of the area in µm².
    """
    pixels = shape[0] * shape[1]
    row = {"nuclei_per_megapixel": len(nuclei) / (pixels / _MEGAPIXEL), **_quartiles(nuclei, _SPREAD)}
    if pixel_size is None:
        return row | {"pixel_size_um": np.nan}
    density = len(nuclei) / (pixels * pixel_size**2 / _UM2_PER_MM2)
    return row | {"pixel_size_um": pixel_size, "nuclei_per_mm2": density, **_quartiles(nuclei, _SPREAD_IN_UM)}


def _quartiles(nuclei: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, float]:
    return {
        f"{name}_{quartile}": np.nan if nuclei.empty else float(nuclei[column].quantile(share))
        for name, column in columns.items()
        for quartile, share in _QUARTILES.items()
    }
