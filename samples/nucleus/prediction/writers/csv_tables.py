"""One row a nucleus, `nuclei.csv`, and one row an image, `images.csv`."""

from __future__ import annotations

from nucleus.prediction.writers.tables import NUCLEI, TableWriter
from trainkit.files import atomic_path

NUCLEI_FILE = f"{NUCLEI.name}.csv"


class CsvTables(TableWriter):
    """CSV files of tables, one for each table."""

    summary = "nuclei.csv and images.csv"

    def close(self) -> None:
        """Writes the files if there was an image; see `Writer.close`."""
        for rows in filter(None, self._rows):
            table = rows.joined()
            for column in rows.table.given:
                table[column] = table[column].map("{:.7g}".format, na_action="ignore")
            with atomic_path(self.folder / f"{rows.table.name}.csv") as temporary:
                table.to_csv(temporary, index=False, float_format=number_text, lineterminator="\n")


def number_text(number: float) -> str:
    """Writes a number with four decimals, or with four digits where those are more.

    Args:
        number: The number.
    """
    return f"{number:.4f}" if abs(number) >= 0.1 or number == 0 else f"{number:.4g}"
