"""The submission file of the 2018 Data Science Bowl on Kaggle, `submission.csv`."""

from __future__ import annotations

from nucleus.prediction.writers.csv_tables import CsvTables
from nucleus.prediction.writers.tables import RUN_LENGTHS


class Submission(CsvTables):
    """One row a nucleus, `ImageId,EncodedPixels`, or `ImageId,` where an image has none."""

    summary = "submission.csv, the run lengths of the 2018 Data Science Bowl"
    tables = (RUN_LENGTHS,)
