"""One row an image: how many nuclei, how dense, how large and how bright."""

from __future__ import annotations

import numpy as np
import pandas as pd

# Name of the columns -> column of the nuclei.
_SPREAD = {"area": "area", "intensity": "mean_intensity"}
_QUARTILES = {"q1": 0.25, "median": 0.5, "q3": 0.75}
_MEGAPIXEL = 1e6
COLUMNS = ("nuclei_per_megapixel", *(f"{name}_{quartile}" for name in _SPREAD for quartile in _QUARTILES))


def summarise(nuclei: pd.DataFrame, shape: tuple[int, int]) -> dict[str, float]:
    """Summarises the nuclei of one image.

    Args:
        nuclei: What `nucleus.measurement.measure` returns for it, with intensities.
        shape: (height, width) of the image.

    Returns:
        nuclei_per_megapixel, and the quartiles (area_q1, area_median, area_q3, and so on; linear interpolation) of area
        and mean intensity, NaN where there is no nucleus.
    """
    row = {"nuclei_per_megapixel": len(nuclei) / (shape[0] * shape[1] / _MEGAPIXEL)}
    for name, column in _SPREAD.items():
        for quartile, share in _QUARTILES.items():
            row[f"{name}_{quartile}"] = np.nan if nuclei.empty else float(nuclei[column].quantile(share))
    return row
