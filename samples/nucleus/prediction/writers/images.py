"""The images of a run and how many nuclei each has, `images.csv`."""

from __future__ import annotations

import pandas as pd

from nucleus.prediction.writers.base import Record, TableWriter


class ImagesTable(TableWriter):
    """One row an image: ImageId, file, height and width in pixels, nuclei."""

    name = "images.csv"
    columns = ("ImageId", "file", "height", "width", "nuclei")

    def table(self, record: Record) -> pd.DataFrame:
        """Returns the row of one image."""
        row = (record.id, record.file, *record.labels.shape, len(record.scores))
        return pd.DataFrame([row], columns=self.columns)
