"""One row an image: how many nuclei, how dense, how large and how bright."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

# Name of the columns -> column of the nuclei.
_SPREAD = {"area": "area", "intensity": "mean_intensity"}
_SPREAD_IN_UM = {"area_um2": "area_um2"}
_QUARTILES = {"q1": 0.25, "median": 0.5, "q3": 0.75}
_MEGAPIXEL = 1e6
_UM2_PER_MM2 = 1e6
COLUMNS = (
    "nuclei_per_megapixel",
    *(f"{name}_{quartile}" for name in _SPREAD for quartile in _QUARTILES),
    *("pixel_size_um", "nuclei_per_mm2"),
    *(f"{name}_{quartile}" for name in _SPREAD_IN_UM for quartile in _QUARTILES),
)


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
