"""The images of a run, how many nuclei each has, and how dense, large and bright they are, `images.csv`."""

from __future__ import annotations

import pandas as pd

from nucleus.measurement import summarise
from nucleus.measurement.summary import COLUMNS
from nucleus.prediction.writers.base import Record, TableWriter


class ImagesTable(TableWriter):
    """One row an image: ImageId, file, height and width in pixels, nuclei, and the columns of `summarise`."""

    name = "images.csv"
    columns = ("ImageId", "file", "height", "width", "nuclei", *COLUMNS)

    def table(self, record: Record) -> pd.DataFrame:
        """Returns the row of one image."""
        height, width = record.labels.shape
        row = {"ImageId": record.id, "file": record.file, "height": height, "width": width}
        size = record.raw.pixel_size
        row |= {"nuclei": len(record.nuclei), **summarise(record.nuclei, (height, width), size)}
        # Other numbers are measured and rounded; this one is given.
        row["pixel_size_um"] = "" if size is None else f"{size:.7g}"
        return pd.DataFrame([row])
