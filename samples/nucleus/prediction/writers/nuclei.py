"""Measurements and scores of the nuclei, `nuclei.csv`."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
from skimage.measure import regionprops_table

from nucleus.prediction.writers.base import Record, TableWriter

NUCLEI_FILE = "nuclei.csv"
# Column -> property of skimage.measure.regionprops.
_PROPERTIES = {
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
    "mean_intensity": "intensity_mean",
}


class NucleiTable(TableWriter):
    """One row a nucleus."""

    name = NUCLEI_FILE
    columns = ("ImageId", "label", "score", *(name for name in _PROPERTIES if name != "label"))

    def table(self, record: Record) -> pd.DataFrame:
        """Measures every nucleus of an image.

        Returns:
            One row a nucleus: ImageId, label, score, area (pixels), centroid_y and centroid_x (pixels from the centre
            of the first pixel), y1, x1, y2, x2 (bounding box, y2 and x2 exclusive), eccentricity (0 circle .. 1 line,
            of the ellipse with the same second moments), solidity (area over that of the convex hull) and
            mean_intensity (of the luminance, ITU-R BT.601, 0..255).
        """
        if not record.labels.any():
            return pd.DataFrame(columns=self.columns)
        luminance = cv2.cvtColor(record.image, cv2.COLOR_RGB2GRAY)
        wanted = ("label", "area", "centroid", "bbox", "eccentricity", "solidity", "intensity_mean")
        measured = regionprops_table(record.labels, luminance, properties=wanted)
        table = pd.DataFrame({name: measured[key] for name, key in _PROPERTIES.items()})
        table["area"] = table["area"].astype(np.int64)
        table.insert(0, "ImageId", record.id)
        table.insert(2, "score", np.asarray(record.scores)[measured["label"] - 1])
        return table
