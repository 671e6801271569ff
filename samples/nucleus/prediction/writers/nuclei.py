"""Measurements and scores of the nuclei, `nuclei.csv`."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nucleus.measurement.nuclei import COLUMNS
from nucleus.prediction.writers.base import Record, TableWriter

NUCLEI_FILE = "nuclei.csv"


class NucleiTable(TableWriter):
    """One row a nucleus."""

    name = NUCLEI_FILE
    columns = ("ImageId", "label", "score", *COLUMNS[1:])

    def table(self, record: Record) -> pd.DataFrame:
        """Returns the measurements of an image's nuclei, see `nucleus.measurement.measure`, with image and scores."""
        table = record.nuclei.copy()
        table.insert(0, "ImageId", record.id)
        known = record.scores is not None
        table.insert(2, "score", np.asarray(record.scores)[table["label"].to_numpy() - 1] if known else np.nan)
        return table
