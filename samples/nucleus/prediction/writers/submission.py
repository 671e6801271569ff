"""The submission file of the 2018 Data Science Bowl on Kaggle, `submission.csv`."""

from __future__ import annotations

import pandas as pd

from nucleus.images.labels import labels_to_rle
from nucleus.prediction.writers.base import Record, TableWriter


class Submission(TableWriter):
    """One row a nucleus, `ImageId,EncodedPixels`, or `ImageId,` where an image has none."""

    name = "submission.csv"
    columns = ("ImageId", "EncodedPixels")
    numbered = False

    def table(self, record: Record) -> pd.DataFrame:
        """Encodes the nuclei of one image as run lengths."""
        codes = [code for code in labels_to_rle(record.labels) if code] or [""]
        return pd.DataFrame([(record.id, code) for code in codes], columns=self.columns)
